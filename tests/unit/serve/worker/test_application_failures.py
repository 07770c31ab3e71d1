"""Why an application does not start, in a sentence and with its own traceback."""

import os

import pytest

from fdpass.errors import ConfigError, StartFailed
from fdpass.serve.worker.application import StartupFailed, explained

from .._modules import loaded, write

HERE = os.path.dirname(os.path.dirname(__file__))  # where `loaded` is too


def error_of(action):
    try:
        action()
    except BaseException as error:
        trace = error.__traceback__
        while trace.tb_frame.f_code.co_filename.startswith(HERE):  # in a worker the first frames are fdpass's
            trace = trace.tb_next
        return error.with_traceback(trace)
    raise AssertionError("it did not fail")


def test_a_traceback_begins_with_the_applications_first_line(folder):
    """None of ours, and none of the import system's."""
    write(folder, "t_breaks", "def connect():\n    raise LookupError('no database')\nconnect()")
    told = explained(error_of(lambda: loaded(folder, "t_breaks:app")))
    assert told["sentence"] == "the application failed to start: LookupError: no database"
    assert not told["final"]
    lines = told["details"].splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    where = [line.rpartition(" in ")[2] for line in lines if line.startswith("  File ")]
    assert where == ["<module>", "connect"]
    assert "importlib" not in told["details"]
    assert "application.py" not in told["details"]
    assert lines[-1] == "LookupError: no database"


def test_a_mistake_in_the_applications_syntax_is_shown_with_its_line(folder):
    write(folder, "t_syntax", "def app(:\n    pass")
    told = explained(error_of(lambda: loaded(folder, "t_syntax:app")))
    assert told["sentence"] == "the application failed to start: SyntaxError: invalid syntax"
    assert "t_syntax.py" in told["details"]
    assert "importlib" not in told["details"]


def test_a_cause_is_told_too(folder):
    write(
        folder,
        "t_cause",
        "try:\n    {}['key']\nexcept KeyError as error:\n    raise RuntimeError('no key') from error",
    )
    told = explained(error_of(lambda: loaded(folder, "t_cause:app")))
    assert "KeyError: 'key'" in told["details"]
    assert told["sentence"].endswith("RuntimeError: no key")


def test_a_note_is_for_the_details():
    """PEP 678: it stands behind the error itself."""
    error = ValueError("bad port")
    error.add_note("set PORT")
    told = explained(error)
    assert told["sentence"] == "the application failed to start: ValueError: bad port"
    assert "set PORT" in told["details"]


def test_an_exit_is_explained():
    assert (
        explained(SystemExit("no licence"))["sentence"]
        == "the application failed to start: SystemExit: no licence"
    )


@pytest.mark.parametrize("error", [StartFailed("no such module"), ConfigError("no such file")])
def test_our_own_errors_need_no_traceback_and_no_second_try(error):
    assert explained(error) == {"sentence": str(error), "details": "", "final": True}


def test_a_failed_lifespan_brings_what_it_logged():
    told = explained(StartupFailed("lifespan startup failed", "Traceback: ..."))
    assert told == {"sentence": "lifespan startup failed", "details": "Traceback: ...", "final": False}
