"""For every test: it must leave no descriptor open and no child process behind."""

import compileall
import gc
from pathlib import Path

import hypothesis
import pytest

import fdpass

hypothesis.settings.register_profile("suite", deadline=None)  # no test is timed
hypothesis.settings.load_profile("suite")

pytest_plugins = ["fdpass.testing.plugin"]


def pytest_sessionstart(session):
    """Compile fdpass once: where PYTHONDONTWRITEBYTECODE is set, each process that a test starts would do so."""
    if not hasattr(session.config, "workerinput"):
        compileall.compile_dir(Path(fdpass.__file__).parent, quiet=2)


def pytest_collection_finish():
    """The tests stay until the end: the collector of garbage need not look at them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_left(no_leaks):
    """Check every test of the suite for leaks."""
