"""Reloads of a busy server: under load, during another reload or a scaling, and with workers that do not start."""

import signal
import threading

import pytest

from ._reload_helpers import GATE, all_ready, write

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


@pytest.fixture
def load(tools):
    """``load(server, act)``: run ``act`` under load; returns the answers, each to a connection of its own."""

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


def test_reloads_under_load_fail_no_request_and_serve_new_code(serve, load):
    server = serve("version:app", files={"version.py": VERSION.format(1)})

    def act():
        for version in (2, 3):
            write(server, "version.py", VERSION.format(version) + "#" * version)
            server.cli("reload")

    answers = load(server, act)
    assert set(answers) == {(200, "1"), (200, "2"), (200, "3")}
    assert [answer for _, answer in answers][-1] == "3"
    server.wait_status(all_ready(2, generation=3))
    server.wait_connections(accepted=len(answers), finished=len(answers), live=0, lost=0)


def test_after_a_reload_clients_that_connected_before_are_answered(serve, client):
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
    status = server.wait_status(all_ready(2, generation=1))
    assert [each["pid"] for each in status["workers"]] == old
    write(server, "version.py", VERSION.format(2))
    server.cli("reload")
    assert server.get("/version") == (200, "2")


def test_a_reload_requested_during_a_reload_follows_it(serve):
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
    assert {outcome.stdout for outcome in outcomes} <= {f"generation {number} serves\n" for number in (2, 3, 4)}
    # The second and the third are one reload, unless one of them was requested when the other had begun.
    server.wait_status(lambda status: all_ready(2)(status) and status["server"]["generation"] in {3, 4})
    assert server.get()[0] == 200


def test_scaling_during_a_reload_applies_to_the_next_generation(serve):
    server = serve()
    write(server, "app.py", (server.folder / "app.py").read_text() + GATE.replace("from app import app", ""))
    server.kill(signal.SIGHUP)
    server.wait_status(lambda status: len(status["workers"]) == 4)
    server.kill(signal.SIGTTIN)
    server.wait_log("scaling from 2 to 3 workers")
    assert server.get()[0] == 200
    (server.folder / "open").touch()
    server.wait_status(all_ready(3, generation=2))
    server.cli("scale", "1")
    server.wait_status(all_ready(1, generation=2))
    assert server.get()[0] == 200


def test_a_reload_is_refused_if_the_new_workers_are_not_ready_within_start_timeout(serve):
    server = serve("app:app", "--start-timeout", "4")
    old = server.workers()
    write(server, "app.py", GATE)
    refused = server.cli("reload", check=False)
    assert refused.returncode == 1
    assert "not ready within 4 s" in refused.stderr
    assert server.workers() == old
    assert server.get()[0] == 200
