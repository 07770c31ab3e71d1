"""For every test: nothing may be left open or running."""

import hypothesis
import pytest

hypothesis.settings.register_profile("suite", deadline=None)  # no test is timed
hypothesis.settings.load_profile("suite")

pytest_plugins = ["fdpass.testing.plugin"]


@pytest.fixture(autouse=True)
def _nothing_left(no_leaks):
    """Each test of the suite is checked."""
