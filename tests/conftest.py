"""For every test: it must leave no descriptor open and no child process behind."""

import hypothesis
import pytest

hypothesis.settings.register_profile("suite", deadline=None)  # no test is timed
hypothesis.settings.load_profile("suite")

pytest_plugins = ["fdpass.testing.plugin"]


@pytest.fixture(autouse=True)
def _nothing_left(no_leaks):
    """Check every test of the suite for leaks."""
