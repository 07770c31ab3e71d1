"""Signals to the dispatcher: they scale, reload, open the access log again, and stop."""

import os
import signal

import pytest

from fdpass.serve.keeper.requests import NOTICE, UPGRADE


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_sigterm_sigint_and_sigquit_stop_an_idle_server_with_exit_code_0(serve, number):
    server = serve("app:app", "--workers", "1")
    with server.connect():
        server.wait_connections(accepted=1)
        assert server.stop(number) == 0
    assert "Traceback" not in server.log()


ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL}
OPERATIONS = {signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU}
FAULTS = {
    signal.SIGABRT,
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGSYS,
}
SUSPENDING = {signal.SIGSTOP, signal.SIGTSTP}
SILENT = {signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCONT}


@pytest.mark.parametrize("keeper", ["auto", "off"])
def test_every_other_signal_is_ignored_with_a_line_in_the_log(serve, keeper):
    """Also while the server stops."""
    server = serve("app:app", "--workers", "1", "--keeper", keeper)
    others = sorted(signal.valid_signals() - ENDING - OPERATIONS - FAULTS - SUSPENDING - SILENT)
    others.remove(UPGRADE)
    if server.dispatcher != server.pid:
        others.remove(NOTICE)
    assert len(others) > 35
    for number in [*SILENT, *others]:
        server.kill(number)
    log = server.wait_log(" is ignored: the server does not use this signal", len(others))
    for name in ("SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGRTMIN+7", "SIGRTMAX"):
        assert log.count(f"warning: {name} is ignored") == 1
    assert log.count("is ignored") == len(others)
    assert server.get() == (200, str(server.workers()[0]))
    assert server.stop() == 0


def test_sigquit_finishes_a_request_and_a_second_one_stops_at_once(serve, client):
    server = serve("app:app", "--workers", "1")
    stream = client(server).stream().held()
    server.kill(signal.SIGQUIT)
    server.wait_log("stopping:")
    server.kill(signal.SIGALRM)
    server.wait_log("SIGALRM is ignored")
    server.kill(signal.SIGQUIT)
    assert server.wait_end() == 0
    assert "stopping at once" in server.log()
    stream.cut()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_as_soon_as_there_is_a_socket_file_leaves_no_file(serve, tmp_path, number):
    path, pidfile = tmp_path / "s", tmp_path / "pid"
    server = serve("app:app", "--workers", "1", "--pidfile", str(pidfile), bind=[f"unix:{path}"], ready=False)
    while not path.exists():
        assert server.process.poll() is None
    server.kill(number)
    if number == signal.SIGHUP:
        server.wait_heard("READY=1")
        server.kill(signal.SIGTERM)
    assert server.wait_end() == 0
    assert not path.exists()
    assert not pidfile.exists()


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
