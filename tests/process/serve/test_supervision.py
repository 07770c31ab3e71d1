"""Ends, reloads and scaling: no orphan, no failed request, and code that does not start changes nothing."""

import os
import signal
import threading

import pytest

VERSION = """
from app import app as rest
VERSION = "{}"

async def app(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/version":
        await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]}})
        await send({{"type": "http.response.body", "body": VERSION.encode()}})
    else:
        await rest(scope, receive, send)
"""
BLOCKS = """
import time
from app import app as rest

async def app(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/block":
        time.sleep(2)
    await rest(scope, receive, send)
"""
GATE = """
import os, time
while not os.path.exists("open"):
    time.sleep(0.01)
from app import app
"""


def write(server, name, text):
    """Replace a module in one act."""
    (server.folder / "new").write_text(text)
    (server.folder / "new").rename(server.folder / name)


def ready(count, generation=None):
    """Whether there are so many workers, ready, of this generation, and no others."""
    return lambda status: (
        [each["state"] for each in status["workers"]] == ["ready"] * count
        and generation in {None, *(each["generation"] for each in status["workers"])}
    )


@pytest.fixture
def load(tools):
    """``load(server, act)``: what clients got, each request on a connection of its own, while ``act`` ran."""

    def load(server, act, path="/version"):
        answers, over = [], threading.Event()

        def ask():
            while not over.is_set():
                try:
                    answers.append(server.get(path))
                except OSError as error:
                    answers.append(error)

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        try:
            tools.wait_until(lambda: len(answers) > 20, "answers: ", lambda: answers)
            act()
            enough = len(answers) + 20
            tools.wait_until(lambda: len(answers) > enough, "answers: ", lambda: answers)
        finally:
            over.set()
            for asker in askers:
                asker.join()
        return answers

    return load


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


def test_sigterm_to_a_worker_replaces_it_new_before_old(serve):
    server = serve()
    old, other = server.workers()
    os.kill(old, signal.SIGTERM)
    log = server.wait_log(f"worker {old} has retired")
    assert log.count("is ready") == 3  # the third, before the first has gone
    assert log.rindex("is ready") < log.index(f"worker {old} has retired")
    status = server.wait_status(ready(2))
    assert other in [each["pid"] for each in status["workers"]]


def test_reloads_under_load_fail_no_request_and_bring_new_code(serve, load):
    server = serve("version:app", files={"version.py": VERSION.format(1)})

    def act():
        for version in (2, 3):
            write(server, "version.py", VERSION.format(version) + "#" * version)
            server.cli("reload")

    answers = load(server, act)
    assert set(answers) == {(200, "1"), (200, "2"), (200, "3")}
    assert [answer for _, answer in answers][-1] == "3"
    server.wait_status(ready(2, generation=3))
    server.wait_connections(accepted=len(answers), finished=len(answers), live=0, lost=0)


def test_a_reload_answers_clients_that_have_connected_and_not_asked_yet(serve, client):
    server = serve()
    quiet = [client(server) for _ in range(10)]
    server.wait_connections(handed=10)
    server.cli("reload")
    assert {one.send(connection="close").answered() for one in quiet} <= set(server.workers())


@pytest.mark.parametrize(
    "broken", ["raise RuntimeError('new and broken')", "def app(:"], ids=["raises", "no Python"]
)
def test_a_reload_with_broken_code_leaves_the_old_generation_serving(serve, load, broken):
    server = serve("version:app", files={"version.py": VERSION.format(1)})
    old = server.workers()
    outcome = []

    def act():
        write(server, "version.py", broken)
        outcome.append(server.cli("reload", check=False))

    answers = load(server, act)
    assert set(answers) == {(200, "1")}
    assert outcome[0].returncode == 1
    assert "RuntimeError: new and broken" in outcome[0].stderr or "SyntaxError" in outcome[0].stderr
    status = server.wait_status(ready(2, generation=1))
    assert [each["pid"] for each in status["workers"]] == old
    write(server, "version.py", VERSION.format(2))
    server.cli("reload")
    assert server.get("/version") == (200, "2")


def test_a_reload_while_a_reload_goes_on_follows_it(serve):
    server = serve()
    write(server, "app.py", (server.folder / "app.py").read_text() + GATE.replace("from app import app", ""))
    outcomes = []
    askers = [threading.Thread(target=lambda: outcomes.append(server.cli("reload"))) for _ in range(3)]
    askers[0].start()
    server.wait_status(lambda status: len(status["workers"]) == 4)
    for asker in askers[1:]:
        asker.start()
    assert server.workers()
    (server.folder / "open").touch()
    for asker in askers:
        asker.join()
    assert [outcome.returncode for outcome in outcomes] == [0, 0, 0]
    # The second and the third are one, unless one of them came when the other had begun.
    server.wait_status(lambda status: ready(2)(status) and status["server"]["generation"] in {3, 4})
    assert server.get()[0] == 200


def test_scaling_during_a_reload_counts_for_the_generation_that_comes(serve):
    server = serve()
    write(server, "app.py", (server.folder / "app.py").read_text() + GATE.replace("from app import app", ""))
    server.kill(signal.SIGHUP)
    server.wait_status(lambda status: len(status["workers"]) == 4)
    server.kill(signal.SIGTTIN)
    server.wait_log("scaling from 2 to 3 workers")
    assert server.get()[0] == 200
    (server.folder / "open").touch()
    server.wait_status(ready(3, generation=2))
    server.cli("scale", "1")
    server.wait_status(ready(1, generation=2))
    assert server.get()[0] == 200


def test_a_worker_that_does_not_become_ready_in_time_is_given_up(serve):
    server = serve("gate:app", "--start-timeout", "3", files={"gate.py": GATE}, ready=False)
    assert server.process.wait(60) == 1
    log = server.log()
    assert "a worker was not ready within 3 s (--start-timeout)" in log
    assert "gate.py" in log  # its stacks: where it hangs


def test_a_reload_that_does_not_become_ready_in_time_is_refused(serve):
    server = serve("app:app", "--start-timeout", "4")
    old = server.workers()
    write(server, "app.py", GATE)
    refused = server.cli("reload", check=False)
    assert refused.returncode == 1
    assert "not ready within 4 s" in refused.stderr
    assert server.workers() == old
    assert server.get()[0] == 200
