"""A folder for the modules of a test."""

import sys

import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for modules; those that the test imports are forgotten afterwards."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]
