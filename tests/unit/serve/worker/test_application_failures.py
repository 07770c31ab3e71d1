"""Why an application does not start, in a sentence and with its own traceback."""

import json
import os

import pytest

from fdpass._framing import FRAME_MAX
from fdpass.errors import ConfigError, StartFailed
from fdpass.serve.worker.application import StartupFailed, explain

from .._modules import loaded, write

HERE = os.path.dirname(os.path.dirname(__file__))  # the folder of `loaded`, too


def error_of(action):
    """What the action raises, with the traceback that it has in a worker."""
    try:
        action()
    except BaseException as error:
        trace = error.__traceback__
        while trace.tb_frame.f_code.co_filename.startswith(HERE):  # in a worker, frames of fdpass stand there
            trace = trace.tb_next
        return error.with_traceback(trace)
    raise AssertionError("it did not fail")


def test_a_traceback_begins_with_the_applications_first_line(folder):
    """Without frames of fdpass, and of the import system."""
    write(folder, "t_breaks", "def connect():\n    raise LookupError('no database')\nconnect()")
    told = explain(error_of(lambda: loaded(folder, "t_breaks:app")))
    assert told["sentence"] == "the application failed to start: LookupError: no database"
    lines = told["details"].splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    where = [line.rpartition(" in ")[2] for line in lines if line.startswith("  File ")]
    assert where == ["<module>", "connect"]
    assert "importlib" not in told["details"]
    assert "application.py" not in told["details"]
    assert lines[-1] == "LookupError: no database"


def test_a_syntax_error_is_shown_with_its_file(folder):
    write(folder, "t_syntax", "def app(:\n    pass")
    told = explain(error_of(lambda: loaded(folder, "t_syntax:app")))
    assert told["sentence"] == "the application failed to start: SyntaxError: invalid syntax"
    assert "t_syntax.py" in told["details"]
    assert "importlib" not in told["details"]


def test_the_details_show_the_errors_cause(folder):
    write(
        folder,
        "t_cause",
        "try:\n    {}['key']\nexcept KeyError as error:\n    raise RuntimeError('no key') from error",
    )
    told = explain(error_of(lambda: loaded(folder, "t_cause:app")))
    assert "KeyError: 'key'" in told["details"]
    assert told["sentence"].endswith("RuntimeError: no key")


def test_the_sentence_leaves_out_the_errors_notes():
    """PEP 678: a formatted exception has them behind the error itself."""
    error = ValueError("bad port")
    error.add_note("set PORT")
    told = explain(error)
    assert told["sentence"] == "the application failed to start: ValueError: bad port"
    assert "set PORT" in told["details"]


def test_a_long_message_is_shortened_so_that_the_report_fits_into_one_frame():
    told = explain(ValueError("\N{GRINNING FACE}" * 100_000 + " of the end"))
    assert told["sentence"].startswith("the application failed to start: ValueError: \N{GRINNING FACE}")
    assert told["details"].endswith(" of the end\n")
    assert len(json.dumps(told, ensure_ascii=False).encode()) < FRAME_MAX


def test_a_system_exit_is_explained():
    assert (
        explain(SystemExit("no licence"))["sentence"] == "the application failed to start: SystemExit: no licence"
    )


@pytest.mark.parametrize("error", [StartFailed("no such module"), ConfigError("no such file")])
def test_errors_of_fdpass_have_no_traceback(error):
    assert explain(error) == {"sentence": str(error), "details": ""}


def test_a_failed_lifespan_is_explained_with_what_the_application_logged():
    told = explain(StartupFailed("lifespan startup failed", "Traceback: ..."))
    assert told == {"sentence": "lifespan startup failed", "details": "Traceback: ..."}
