"""Tests that are coroutine functions, which the conftest.py of their folder runs in the loop of their server."""

import inspect


def arguments_of(pyfuncitem):
    """The fixtures that a test asks for, by name; None if the test is no coroutine function."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    return {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
