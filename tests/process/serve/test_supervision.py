"""Workers whose dispatcher dies end, and a worker that retires or does not start is replaced or given up."""

import contextlib
import os
import signal
import time

from ._reload_helpers import GATE, all_ready

BLOCKS = """
import time
from app import app as rest

async def app(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/block":
        time.sleep(2)
    await rest(scope, receive, send)
"""


def test_no_worker_outlives_a_killed_dispatcher(serve, client, tools):
    server = serve("app:app", "--graceful-timeout", "0.5")  # the time for what is in progress
    workers = server.workers()
    held = [client(server).stream().held() for _ in range(4)]
    server.kill(signal.SIGKILL)
    server.process.wait()
    assert all(one.ended() for one in held)
    tools.wait_until(lambda: not any(map(tools.alive, workers)), "ended: ", lambda: workers)


def test_a_worker_whose_loop_was_blocked_while_its_dispatcher_died_answers_and_ends(serve, client, tools):
    server = serve("blocks:app", files={"blocks.py": BLOCKS})
    workers = server.workers()
    blocked = client(server).send("/block", "POST")
    server.wait_status(lambda status: any(each["lag_ms"] > 500 for each in status["workers"]))
    server.kill(signal.SIGKILL)
    server.process.wait()
    assert blocked.answered() in workers
    tools.wait_until(lambda: not any(map(tools.alive, workers)), "ended: ", lambda: workers)


def test_a_server_that_was_stopped_as_a_whole_for_longer_than_hang_timeout_goes_on(serve, tools):
    """As a suspend of the machine, or a frozen container."""
    server = serve("app:app", "--hang-timeout", "2")
    workers = server.workers()
    with contextlib.ExitStack() as held:
        for pid in workers:
            held.enter_context(tools.stopped(pid))
        with server.paused():
            time.sleep(3)  # the time itself is under test
        time.sleep(0.5)  # the dispatcher checks the workers before they go on
    server.wait_status(lambda status: all(0 <= each["lag_ms"] < 500 for each in status["workers"]))
    assert server.workers() == workers
    assert "hangs" not in server.log()
    assert server.get()[0] == 200


def test_sigterm_to_a_worker_replaces_it_new_before_old(serve):
    server = serve()
    old, other = server.workers()
    os.kill(old, signal.SIGTERM)
    log = server.wait_log(f"worker {old} has retired")
    assert log.count("is ready") == 3  # the third, before the first has gone
    assert log.rindex("is ready") < log.index(f"worker {old} has retired")
    status = server.wait_status(all_ready(2))
    assert other in [each["pid"] for each in status["workers"]]


def test_a_worker_that_does_not_become_ready_in_time_is_given_up(serve):
    server = serve("gate:app", "--start-timeout", "3", files={"gate.py": GATE}, ready=False)
    assert server.process.wait(60) == 1
    log = server.log()
    assert "a worker was not ready within 3 s (--start-timeout)" in log
    assert "gate.py" in log  # its stacks: where it hangs
