"""``--keeper on`` and the service manager: all notifications are the keeper's; names and scores of processes."""

import os
import signal
import time
from pathlib import Path

from ._keeper_here import needs_keeper
from .conftest import stopped, wait_until

pytestmark = needs_keeper


def test_only_the_keeper_notifies(kept):
    """systemd hears no other process, with ``NotifyAccess=main``."""
    server = kept("--keeper", "on", ready=False)
    assert "STATUS=generation 1, 2 workers" in server.wait_heard("READY=1").split("\n")
    server.cli("scale", "1")
    server.wait_heard("STATUS=generation 1, 1 worker")
    server.kill_dispatcher()
    before = time.monotonic_ns() // 1000
    server.kill(signal.SIGHUP)
    (stamp,) = [
        line for line in server.wait_heard("RELOADING=1").split("\n") if line.startswith("MONOTONIC_USEC=")
    ]
    assert before <= int(stamp.split("=")[1]) <= time.monotonic_ns() // 1000
    assert "STATUS=generation 2, 1 worker" in server.wait_heard("READY=1").split("\n")
    assert server.stop() == 0
    server.wait_heard("STOPPING=1")
    assert server.notifiers == {server.pid}


def test_the_watchdog_is_notified_while_the_dispatcher_runs(kept):
    """A dispatcher that is stopped is replaced after two seconds; until then the watchdog hears nothing."""
    server = kept("--keeper", "on", env={"WATCHDOG_USEC": "200000"})
    for _ in range(3):
        server.wait_heard("WATCHDOG=1")
    with stopped(server.status()["server"]["dispatcher"]):
        server.wait_log("does not run: it is killed")
        silent = [notice for notice in _all_heard(server) if notice == "WATCHDOG=1"]
    assert len(silent) <= 14  # those of the first second, and what was in the socket
    server.wait_log("takes over from a dead one")
    for _ in range(3):
        server.wait_heard("WATCHDOG=1")
    assert server.notifiers == {server.pid}


def _all_heard(server):
    heard = []
    try:
        while True:
            heard.append(server._notice())
    except BlockingIOError:
        return heard


def test_a_new_keeper_names_itself_as_the_main_process(kept):
    server = kept("--keeper", "on", "--orphan", "continue")
    dispatcher = server.status()["server"]["dispatcher"]
    server.process.kill()
    server.process.wait()
    wait_until(lambda: f"MAINPID={dispatcher}" in _all_heard(server), "heard: ", server.log)
    assert dispatcher in server.notifiers
    server.pid = dispatcher  # for the end of the test
    os.kill(dispatcher, signal.SIGTERM)
    server.wait_log("the server has stopped")


def test_names_and_scores(kept):
    """For lack of memory the kernel ends workers before the dispatcher, and the dispatcher before the keeper."""
    server = kept("--keeper", "on")

    def shown(pid):
        folder = Path(f"/proc/{pid}")
        return (folder / "comm").read_text().strip(), int((folder / "oom_score_adj").read_text())

    def check():
        pids = [server.pid, server.status()["server"]["dispatcher"], *server.workers()]
        names, scores = zip(*map(shown, pids), strict=True)
        assert names == ("fdpass-keeper", "fdpass-dispatch", "fdpass-worker", "fdpass-worker")
        own = shown("self")[1]
        assert scores == (own, own + 10, own + 20, own + 20)

    check()
    server.kill_dispatcher()
    check()
    assert (
        f"keeper {server.pid}, dispatcher {server.status()['server']['dispatcher']},"
        in server.cli("status").stdout
    )


LOG = """
{"version": 1,
 "formatters": {"plain": {"format": "%(process)d %(message)s"}},
 "handlers": {"file": {"class": "logging.handlers.RotatingFileHandler", "filename": "server.log", "maxBytes": 500,
                       "backupCount": 50, "formatter": "plain"}},
 "root": {"handlers": ["file"]},
 "loggers": {"fdpass": {"handlers": ["file"], "level": "INFO", "propagate": false}}}
"""


def test_log_files_are_the_dispatchers_alone(kept, client):
    """Dispatchers rotate and close them; what the keeper logs goes to standard error, and to no client."""
    server = kept("--keeper", "on", "--log-config", "log.json", files={"log.json": LOG})
    clients = [client(server) for _ in range(20)]
    for _ in range(3):
        assert all(one.ask().told()["token"] == "-" for one in clients)
        dead = server.status()["server"]["dispatcher"]
        os.kill(dead, signal.SIGKILL)
        server.wait_log(f"the dispatcher {dead} has ended (killed by SIGKILL): another takes over")
        server.wait_status(lambda status, dead=dead: status["server"]["dispatcher"] != dead)
    assert server.cli("reload").returncode == 0
    assert all(one.ask().told()["token"] == "-" for one in clients)
    dispatcher = server.status()["server"]["dispatcher"]
    assert server.stop() == 0
    logged = "".join(path.read_text() for path in server.folder.glob("server.log*"))
    assert logged.count("takes over from a dead one") == 3
    assert f"{dispatcher} the server has stopped" in logged
    assert f"{server.pid} the dispatcher" not in logged
