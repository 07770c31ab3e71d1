"""The server's own log lines, as text or JSON; a line that cannot be written is no failure."""

import io
import json
import logging
import logging.config
import os
import re
import subprocess
import sys

import pytest

from fdpass.errors import ConfigError
from fdpass.serve.shared import logs
from fdpass.serve.shared.events import Event, about


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
    LOG.error("line one\nline %s ü", "two", extra=about(Event.WORKER_DIED, worker=5, cause="SIGKILL"))
    (line,) = stderr.getvalue().splitlines()
    told = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told.pop("time"))
    fields = {"event": "worker_died", "worker": 5, "cause": "SIGKILL"}
    assert told == {"pid": os.getpid(), "level": "error", **fields, "message": "line one\nline two ü"}


def test_a_json_line_has_the_fields_of_its_process_unless_it_has_its_own(stderr):
    """A worker's lines name the worker, whoever has logged them."""
    logs.configure("info", as_json=True, fields={"event": "other", "worker": 7, "generation": 2})
    LOG.error("a")
    LOG.error("b", extra=about(Event.APPLICATION_FAILED, generation=3))
    lines = [json.loads(line) for line in stderr.getvalue().splitlines()]
    assert [(line["event"], line["worker"], line["generation"]) for line in lines] == [
        ("other", 7, 2),
        ("application_failed", 7, 3),
    ]


class Tail(logging.Handler):
    """Keeps what it gets."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.got = []
        logs.add_tail(self)

    def emit(self, record):
        self.got.append(record.getMessage())


@pytest.fixture
def tail(stderr):
    found = Tail()
    yield found
    logs.remove_tail(found)


def test_a_tail_gets_the_lines_from_info_on_whatever_is_printed(stderr, tail):
    for level, printed in (("error", ["c"]), ("debug", ["debug", "b", "c"])):
        logs.configure(level, as_json=True)
        LOG.debug("debug")
        LOG.info("b")
        LOG.error("c")
        assert tail.got == ["b", "c"]
        lines = [json.loads(line)["message"] for line in stderr.getvalue().splitlines()]
        assert lines[-len(printed) :] == printed
        tail.got.clear()


def test_a_tail_survives_a_configuration_from_a_file_whose_level_it_keeps(stderr, tail, tmp_path):
    file = tmp_path / "logs.json"
    file.write_text('{"version": 1, "loggers": {"fdpass": {"level": "WARNING"}}}')
    logs.configure("info", as_json=False, file=str(file))
    LOG.info("a")
    LOG.warning("b")
    assert tail.got == ["b"]


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
    ("level", "own", "foreign"), [("debug", 4, 2), ("info", 2, 2), ("warning", 2, 1), ("error", 0, 0)]
)
def test_of_uvicorn_itself_only_warnings_are_logged_unless_at_debug(stderr, level, own, foreign):
    """What the application logs as ``uvicorn.error`` is logged as under uvicorn; websockets counts as uvicorn."""
    packages = [pytest.importorskip("uvicorn"), pytest.importorskip("websockets")]
    logs.configure(level, as_json=False)
    logger = logging.getLogger("uvicorn.error")
    for file in (*(os.path.join(os.path.dirname(each.__file__), "server.py") for each in packages), __file__):
        for number in (logging.INFO, logging.WARNING):
            if logger.isEnabledFor(number):
                kind = "foreign" if file == __file__ else "own"
                logger.handle(logger.makeRecord(logger.name, number, file, 1, kind, (), None))
    text = stderr.getvalue()
    assert (text.count("own"), text.count("foreign")) == (own, foreign)


@pytest.mark.parametrize("by_file", [False, True])
def test_a_dictconfig_of_the_application_disables_no_logger_of_the_server(stderr, tmp_path, by_file):
    """By default it disables each logger that there is and that it does not name."""
    logs.configure("info", as_json=True)
    logging.getLogger("of.the.application")
    if by_file:
        (tmp_path / "log.ini").write_text(INI)
        logging.config.fileConfig(tmp_path / "log.ini")
    else:
        logging.config.dictConfig({"version": 1})
    for name in ("fdpass", "fdpass.serve", "uvicorn", "uvicorn.error"):
        logging.getLogger(name).error("from %s", name)
    assert len(stderr.getvalue().splitlines()) == 4
    assert logging.getLogger("of.the.application").disabled


INI = """
[loggers]
keys=root
[handlers]
keys=
[formatters]
keys=
[logger_root]
handlers=
"""
JSON = """{"version": 1, "formatters": {"short": {"format": "SHORT %(message)s"}},
"handlers": {"here": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "short"}},
"loggers": {"fdpass.serve": {"handlers": ["here"], "propagate": false}}}"""
TOML = """
version = 1
formatters.short.format = "SHORT %(message)s"
handlers.here = {class = "logging.StreamHandler", stream = "ext://sys.stdout", formatter = "short"}
loggers."fdpass.serve" = {handlers = ["here"], propagate = false}
"""
YAML = """
version: 1
formatters: {short: {format: "SHORT %(message)s"}}
handlers: {here: {class: logging.StreamHandler, stream: "ext://sys.stdout", formatter: short}}
loggers: {fdpass.serve: {handlers: [here], propagate: false}}
"""


@pytest.mark.parametrize(
    ("name", "text"), [("log.json", JSON), ("log", JSON), ("log.toml", TOML), ("log.YML", YAML)]
)
def test_a_file_configures_the_loggers_until_the_next_configure(tmp_path, capsys, stderr, name, text):
    if text is YAML:
        pytest.importorskip("yaml")
    (tmp_path / name).write_text(text)
    logs.configure("info", as_json=False, file=str(tmp_path / name))
    LOG.info("one")
    logging.getLogger("uvicorn.error").error("two")
    out, err = capsys.readouterr()
    assert out == "SHORT one\n"
    assert err.endswith("error: two\n")
    logs.configure("info", as_json=False)
    LOG.info("three")
    assert stderr.getvalue().endswith("info: three\n")


FOR_FILE_CONFIG = """
[loggers]
keys = root, server
[handlers]
keys = out
[formatters]
keys = short
[logger_root]
level = INFO
handlers = out
[logger_server]
qualname = fdpass
level = INFO
handlers = out
propagate = 0
[handler_out]
class = StreamHandler
args = (sys.stdout,)
formatter = short
[formatter_short]
format = SHORT %(message)s
"""


@pytest.mark.parametrize("name", ["log.ini", "log.conf"])
def test_a_file_for_file_config_configures_the_loggers_and_disables_none(tmp_path, name):
    """In a process of its own: `fileConfig` replaces the handlers of the root logger."""
    (tmp_path / name).write_text(FOR_FILE_CONFIG)
    code = f"""
import logging
from fdpass.serve.shared import logs
mine = logging.getLogger("mine")
logs.configure("info", as_json=False, file={name!r})
logging.getLogger("fdpass.serve").info("one")
logging.getLogger("uvicorn.error").error("two")
mine.info("three")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "SHORT one\nSHORT three\n"
    assert done.stderr.endswith("error: two\n")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("log.json", "{", "is not JSON: "),
        ("log.ini", "version", "is not INI: "),
        ("log.ini", "[loggers]\nkeys = root\n", "'formatters'"),
        ("log.toml", "version = ", "is not TOML: "),
        ("log.json", "[1]", "has no table at its top level"),
        ("log.json", '{"version": 2}', "nsupported version: 2"),
        ("log.json", '{"version": 1, "handlers": {"x": {"class": "no.such.Class"}}}', "No module named 'no'"),
        (None, "", "cannot be read: No such file or directory"),
        ("log.yaml", "version: 1", "YAML needs PyYAML: pip install pyyaml"),
    ],
)
@pytest.mark.usefixtures("stderr")
def test_a_file_that_is_wrong_is_refused_in_a_sentence(tmp_path, monkeypatch, name, text, words):
    monkeypatch.setitem(sys.modules, "yaml", None)
    path = str(tmp_path / (name or "missing.json"))
    if name is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=r"^--log-config ") as caught:
        logs.configure("info", as_json=False, file=path)
    assert path in str(caught.value)
    assert words in str(caught.value)


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
from fdpass.errors import ConfigError
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
