"""`wait_for_signal`, in a process of its own, whose signals are blocked."""

import signal
import subprocess
import sys

CODE = """
import os, signal, time
from fdpass.serve.keeper.waiting import wait_for_signal

signals = {signal.SIGCHLD, signal.SIGTERM, signal.SIGRTMIN, signal.SIGRTMAX}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
assert wait_for_signal(signals, -1) == 0
began = time.monotonic()
assert wait_for_signal(signals, 0.05) == 0
assert time.monotonic() - began >= 0.05
for number in (signal.SIGTERM, signal.SIGRTMIN, signal.SIGRTMAX):
    os.kill(os.getpid(), number)
    assert wait_for_signal({signal.SIGCHLD}, 0.01) == 0
    assert wait_for_signal(signals, 60) == number
    assert wait_for_signal(signals, 0) == 0
if os.fork() == 0:
    for _ in range(20):  # stopped for longer than the wait
        time.sleep(0.01)
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(0.06)
        os.kill(os.getppid(), signal.SIGCONT)
    os._exit(0)
seen = []
while signal.SIGCHLD not in seen or os.waitpid(-1, os.WNOHANG)[0] == 0:
    seen.append(wait_for_signal(signals, 0.05))
assert set(seen) == {0, signal.SIGCHLD}, seen
"""


def test_it_returns_the_signals_that_came_and_no_others():
    """Also if the process was stopped meanwhile, for longer than it wanted to wait."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.returncode) == ("", 0)
    assert signal.SIGRTMAX > 63  # so that all words of the mask are tried
