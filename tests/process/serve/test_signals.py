"""Signals to the dispatcher: they scale, reload, open the access log again, and stop."""

import os
import signal

import pytest


def test_sigttin_and_sigttou_scale_by_one_and_never_to_zero(serve):
    server = serve("app:app", "--workers", "1")
    server.kill(signal.SIGTTIN)
    server.wait_status(lambda status: [w["state"] for w in status["workers"]] == ["ready", "ready"])
    server.kill(signal.SIGTTOU)
    server.wait_status(lambda status: [w["state"] for w in status["workers"]] == ["ready"])
    server.kill(signal.SIGTTOU)
    server.kill(signal.SIGTTIN)
    server.wait_status(lambda status: len(status["workers"]) == 2)
    assert server.get()[0] == 200


def test_sighup_starts_a_new_generation(serve):
    server = serve()
    old = set(server.workers())
    server.kill(signal.SIGHUP)
    server.wait_heard("RELOADING=1")
    server.wait_heard("READY=1")
    status = server.wait_status(lambda status: not old & {w["pid"] for w in status["workers"]})
    assert (status["server"]["generation"], status["server"]["pid"]) == (2, server.pid)
    assert [w["generation"] for w in status["workers"]] == [2, 2]


def test_sigusr1_opens_a_moved_access_log_again_in_every_worker(serve, tmp_path):
    path, moved = tmp_path / "access", tmp_path / "access.1"
    server = serve("app:app", "--access-log", str(path))
    for _ in range(2):
        server.get("/before")
    server.wait_connections(finished=2)
    os.rename(path, moved)
    server.get("/between")
    server.wait_connections(finished=3)
    server.kill(signal.SIGUSR1)
    server.wait_log("access log opened again")
    assert path.exists()
    for _ in range(4):
        server.get("/after")
    server.wait_connections(finished=7)
    assert (moved.read_text().count("/before"), moved.read_text().count("/between")) == (2, 1)
    after = path.read_text()
    assert after.count("/after") == 4
    assert {int(line.split("pid=")[1]) for line in after.splitlines()} == set(server.workers())


def test_sigusr1_keeps_the_old_access_log_if_the_new_one_cannot_be_opened(serve, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    server = serve("app:app", "--workers", "1", "--access-log", str(folder / "access"))
    os.rename(folder, tmp_path / "moved")
    server.kill(signal.SIGUSR1)
    server.wait_log("workers keep writing to the old file")
    server.get("/after")
    server.wait_connections(finished=1)
    assert "/after" in (tmp_path / "moved" / "access").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_and_sigint_stop_an_idle_server_with_exit_code_0(serve, number):
    server = serve("app:app", "--workers", "1")
    with server.connect():
        server.wait_connections(accepted=1)
        assert server.stop(number) == 0
    assert "Traceback" not in server.log()


def test_a_sigterm_while_the_first_workers_start_stops_the_server(serve):
    text = """
        import asyncio
        async def app(scope, receive, send):
            print("called", flush=True)
            await asyncio.Event().wait()
    """
    server = serve("app:app", "--workers", "1", files={"app.py": text}, ready=False)
    server.wait_log("called")
    assert server.stop() == 0
