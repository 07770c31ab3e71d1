"""The server's own log lines, as text or JSON; a line that cannot be written is no failure."""

import io
import json
import logging
import os
import re
import subprocess
import sys

import pytest

from fdpass.serve.shared import logs


class Stderr:
    """What has been written to standard error so far."""

    def __init__(self, capsys):
        self._capsys = capsys
        self._text = ""

    def getvalue(self):
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture
def stderr(capsys):
    """What is logged to standard error; the loggers are restored after the test."""
    names = ("fdpass", "fdpass.serve", "uvicorn", "uvicorn.error")
    before = [(logging.getLogger(name), vars(logging.getLogger(name)).copy()) for name in names]
    for logger, state in before:
        state["handlers"] = list(logger.handlers)
        logger.setLevel(logging.NOTSET)  # whatever other tests of this process left
    yield Stderr(capsys)
    for logger, state in before:
        logger.handlers[:] = state["handlers"]
        logger.propagate = state["propagate"]
        logger.setLevel(state["level"])


LOG = logging.getLogger("fdpass.serve")


def test_a_text_line_has_time_pid_level_and_message(stderr):
    logs.configure("info", as_json=False)
    LOG.warning("worker %d is late", 5)
    assert re.fullmatch(
        rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d \[{os.getpid()}\] warning: worker 5 is late\n", stderr.getvalue()
    )


def test_a_json_line_has_time_pid_level_and_message(stderr):
    logs.configure("info", as_json=True)
    LOG.error("line one\nline %s ü", "two")
    (line,) = stderr.getvalue().splitlines()
    told = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told.pop("time"))
    assert told == {"pid": os.getpid(), "level": "error", "message": "line one\nline two ü"}


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_is_logged_in_both_formats(stderr, as_json):
    logs.configure("info", as_json=as_json)
    try:
        raise LookupError("no table")
    except LookupError:
        LOG.exception("failed")
    text = json.loads(stderr.getvalue())["traceback"] if as_json else stderr.getvalue()
    assert "LookupError: no table" in text


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
        ("critical", []),
    ],
)
def test_lines_below_the_level_are_not_logged(stderr, level, expected):
    logs.configure(level, as_json=True)
    for name in ("debug", "info", "warning", "error"):
        getattr(LOG, name)(name)
    assert [json.loads(line)["message"] for line in stderr.getvalue().splitlines()] == expected


@pytest.mark.parametrize(
    ("level", "expected"), [("debug", 2), ("info", 1), ("warning", 1), ("error", 0), ("critical", 0)]
)
def test_uvicorns_lines_below_warning_are_not_logged_unless_at_debug(stderr, level, expected):
    logs.configure(level, as_json=False)
    for name in ("info", "warning"):
        getattr(logging.getLogger("uvicorn.error"), name)(name)
    assert len(stderr.getvalue().splitlines()) == expected


def test_a_second_configure_replaces_the_first(stderr):
    """A reload does it."""
    logs.configure("info", as_json=False)
    logs.configure("info", as_json=True)
    LOG.info("once")
    assert json.loads(stderr.getvalue())["message"] == "once"


def test_the_root_logger_is_left_alone(stderr):
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    logs.configure("debug", as_json=True)
    assert (root.level, root.handlers) == before


def test_a_line_that_cannot_be_formatted_or_written_is_ignored(stderr, monkeypatch):
    logs.configure("info", as_json=True)
    LOG.info("%d", "no number")
    LOG.info("lone surrogate \udcff")
    LOG.info("next")
    assert json.loads(stderr.getvalue().splitlines()[-1])["message"] == "next"
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    logs.configure("info", as_json=False)
    LOG.info("nobody reads")


CHILD = """
import logging, sys
from fdpass.serve.shared import logs
logs.configure("info", as_json={as_json})
for n in range(100):
    logging.getLogger("fdpass.serve").error("line %d", n)
sys.stdout.write("done")
"""


@pytest.mark.parametrize("as_json", [True, False])
def test_a_full_disk_stops_nothing_and_prints_nothing(as_json):
    """Standard error on a file system without room: the program goes on, and prints nothing elsewhere."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", CHILD.format(as_json=as_json)], stdout=subprocess.PIPE, stderr=full, check=False
        )
    assert done.stdout == b"done"
