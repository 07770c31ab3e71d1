"""The access log and the server's own log, as text or JSON; a full disk stops neither server nor requests."""

import json
import re
import sys

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

FULL = """
import os, sys
os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
os.dup2(1, 2)
os.execv(sys.executable, [sys.executable, "-m", "fdpass", *sys.argv[1:]])
"""


def entries(text):
    """The lines of an access log."""
    return [line for line in text.splitlines() if "HTTP/" in line]


def test_the_access_log_is_in_the_common_format_with_the_workers_pid(serve, tmp_path):
    path = tmp_path / "access"
    server = serve("app:app", "--access-log", str(path))
    workers = [int(server.get("/a?b=c")[1]) for _ in range(2)]
    server.wait_connections(finished=2)
    lines = {int(line.split("pid=")[1]): line for line in entries(path.read_text())}
    assert set(lines) == set(workers)
    for pid, line in lines.items():
        size = len(str(pid))
        date = r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\]"
        assert re.fullmatch(
            rf'127\.0\.0\.1 - - {date} "GET /a\?b=c HTTP/1\.1" 200 {size} pid={pid}',
            line,
        )
    assert path.stat().st_mode & 0o777 & ~0o640 == 0


def test_the_access_log_goes_to_standard_output_and_nothing_else_is_logged_per_connection(serve):
    server = serve("app:app", "--workers", "1", "--access-log", "-")
    for _ in range(3):
        server.get()
    server.wait_log('"GET / HTTP/1.1" 200')
    server.wait_connections(finished=3)
    assert server.stop() == 0
    assert len(entries(server.log())) == 3
    assert len(server.log().splitlines()) == 3 + 6  # listens, is ready, URL, stopping, has retired, has stopped


def test_without_an_access_log_requests_leave_no_line(serve):
    server = serve("app:app", "--workers", "1")
    for _ in range(3):
        server.get()
    assert server.stop() == 0
    assert len(server.log().splitlines()) == 6


def test_log_json_makes_every_line_an_object(serve):
    text = """
        async def app(scope, receive, send):
            if scope["path"] == "/fail":
                raise ValueError("on purpose")
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
    """
    server = serve(
        "app:app", "--workers", "1", "--lifespan", "off", "--log-json", "--access-log", "-", files={"app.py": text}
    )
    (pid,), dispatcher = server.workers(), server.dispatcher
    assert server.get("/fine")[0] == 204
    assert server.get("/fail")[0] == 500
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log().splitlines()]
    requests = [line for line in lines if "method" in line]
    assert [(line["path"], line["status"], line["pid"]) for line in requests] == [
        ("/fine", 204, pid),
        ("/fail", 500, pid),
    ]
    events = [line for line in lines if "message" in line]
    assert {line["pid"] for line in events} == {dispatcher, pid}
    assert all({"time", "pid", "level", "message"} <= set(line) for line in events)
    (failure,) = [line for line in events if "traceback" in line]
    assert failure["level"] == "error"
    assert "ValueError: on purpose" in failure["traceback"]


CONFIGURES = """
    import logging, logging.config

    logging.config.dictConfig({"version": 1})

    async def app(scope, receive, send):
        logging.getLogger("uvicorn.error").info("said by the application")
        raise LookupError(scope["type"])
"""
LOG_CONFIG = {
    "version": 1,
    "formatters": {"short": {"format": "SHORT %(message)s"}},
    "handlers": {"here": {"class": "logging.StreamHandler", "formatter": "short"}},
    "loggers": {"fdpass.serve": {"handlers": ["here"], "propagate": False}},
}


def test_an_application_that_configures_logging_silences_no_error_and_may_use_uvicorns_logger(serve):
    files = {"app.py": CONFIGURES, "log.json": json.dumps(LOG_CONFIG)}
    server = serve("app:app", "--workers", "1", "--lifespan", "off", "--log-config", "log.json", files=files)
    assert server.get()[0] == 500
    with pytest.raises(InvalidStatus):
        connect(f"ws://127.0.0.1:{server.address[1]}/")
    log = server.wait_log("LookupError: websocket")
    assert "LookupError: http" in log
    assert log.count("said by the application") == 2
    assert "SHORT worker " in log  # the dispatcher applies the file, too
    (server.folder / "log.json").write_text("{")
    assert "is not JSON" in server.cli("reload", check=False).stderr


def test_log_level_hides_lines_below_it(serve):
    server = serve("app:app", "--workers", "1", "--log-level", "error")
    server.get()
    assert server.stop() == 0
    assert server.log() == ""


def test_requests_are_answered_though_the_access_logs_disk_is_full(serve):
    server = serve("app:app", "--workers", "1", "--access-log", "/dev/full")
    assert [server.get()[0] for _ in range(5)] == [200] * 5
    server.wait_log("access log: lines are dropped from now on: ")
    assert server.log().count("lines are dropped") == 1
    assert server.stop() == 0


def test_the_server_works_though_its_own_logs_disk_is_full(serve):
    full = (sys.executable, "-c", FULL)
    server = serve("app:app", "--access-log", "-", "--log-level", "debug", launch=full)
    assert [server.get()[0] for _ in range(4)] == [200] * 4
    assert server.cli("reload").stdout == "generation 2 serves\n"
    assert server.get()[0] == 200
    assert server.stop() == 0


def test_an_access_log_that_cannot_be_opened_makes_the_start_fail(serve):
    server = serve("app:app", "--access-log", "/nowhere/at/all", ready=False)
    assert server.wait_end() == 1
    assert server.log() == "fdpass serve: cannot open the access log /nowhere/at/all: No such file or directory\n"
