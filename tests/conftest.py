"""For every test: nothing may be left open or running."""

import pytest

pytest_plugins = ["fdpass.testing.plugin"]


@pytest.fixture(autouse=True)
def _nothing_left(no_leaks):
    """Each test of the suite is checked."""
