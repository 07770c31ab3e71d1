"""`keeping`: a running `fdpass keep`, with a program that does what the test tells it."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fdpass._keep.client import ask, connected

COMMAND = [sys.executable, "-m", "fdpass", "keep"]
TOLD = [sys.executable, str(Path(__file__).with_name("told_program.py"))]
TIMEOUT = 60


class Keep:
    """A running `fdpass keep`."""

    def __init__(self, folder, options, program, prefix=(), **popen):
        self.control = str(folder / "control")
        words = [*prefix, *COMMAND, "--control", self.control, *map(str, options), "--", *map(str, program)]
        popen = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}
        self.process = subprocess.Popen(words, text=True, bufsize=1, **popen)

    def tell(self, line):
        """Let the program execute a line of Python."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def line(self):
        """The next line that the program prints."""
        line = self.process.stdout.readline()
        if not line:
            pytest.fail(f"fdpass keep has ended: {self.process.stderr.read()}", pytrace=False)
        return line.rstrip("\n")

    def ask(self, line):
        """Let the program execute a line of Python that says something, and return what it says."""
        self.tell(line)
        return self.line()

    def started(self):
        """Wait for a start of the program: its pid, and the names and kinds of its descriptors."""
        word, pid, *given = self.line().split()
        assert word == "start"
        return int(pid), given

    def kill(self, pid):
        """Kill the program, and wait for the next one; returns as `started`."""
        os.kill(pid, signal.SIGKILL)
        return self.started()

    def log(self, words):
        """Read the log up to a line with these words, and return the line."""
        for line in self.process.stderr:
            if words in line:
                return line
        pytest.fail(f"no line of the log has {words!r}")

    def run(self, verb, *arguments, **options):
        words = [*COMMAND, verb, "--control", self.control, *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, **options)

    def list(self):
        with connected(self.control) as channel:
            channel.settimeout(TIMEOUT)
            reply, message = ask(channel, "list")
            message.close()
        return reply

    def names(self):
        """The names of the stored descriptors."""
        return [each["name"] for each in self.list()["stored"]]

    def wait(self):
        """Wait for the end. Returns the exit code and the rest of the log."""
        code = self.process.wait(TIMEOUT)
        return code, self.process.stderr.read()

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.wait()

    def close(self):
        with self.process:  # closes its pipes, and waits
            if self.process.poll() is None:
                self.process.terminate()
                try:
                    self.process.wait(20)
                finally:
                    self.process.kill()
        assert not os.path.exists(self.control)
        assert not os.path.exists(f"{self.control}.notify")


@pytest.fixture
def keeping(tmp_path):
    """``keeping(*options, program=..., folder=...)``: a `Keep`, which is stopped at the end of the test."""
    with contextlib.ExitStack() as held:

        def start(*options, program=TOLD, folder=tmp_path, **popen):
            return held.enter_context(contextlib.closing(Keep(folder, options, program, **popen)))

        yield start


@pytest.fixture
def open_folder():
    """A folder that every user may enter; the test is skipped if it cannot become another user."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def told(keeping):
    """A `Keep` with the program that does what it is told, started."""
    keep = keeping()
    keep.pid, _ = keep.started()
    return keep
