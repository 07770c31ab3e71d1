"""The pytest plugin: its fixture `no_leaks` fails a test that leaves descriptors or children behind.

Load it in a ``conftest.py`` with ``pytest_plugins = ["fdpass.testing.plugin"]``. Then name ``no_leaks`` as a
parameter of a test, in ``@pytest.mark.usefixtures("no_leaks")``, or in an autouse fixture of your own.
"""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Iterator

import pytest

from fdpass.testing._leaks import children, interpreters_own, open_fds


@pytest.fixture(scope="session")
def _fdpass_process_wide() -> None:
    # With the first loop of a process libuv opens a pipe for signals, and keeps it: not a leak of a test.
    if importlib.util.find_spec("uvloop") is not None:
        import uvloop  # noqa: PLC0415 - only where it is installed

        uvloop.new_event_loop().close()


@pytest.fixture
def no_leaks(_fdpass_process_wide: None) -> Iterator[None]:
    """Fail the test, naming each leak, if the test leaves a descriptor open or a child process behind.

    Descriptors that only the garbage collector closes are no leaks here: a `ResourceWarning` reports them.
    """
    fds, pids = open_fds(), children()
    yield
    if open_fds() != fds:
        gc.collect()
    left = _leaks(fds, pids)
    if left:
        pytest.fail("\n".join(["the test left behind:", *left]), pytrace=False)


def _leaks(fds: dict[int, str], pids: dict[int, str]) -> list[str]:
    own_fds, own_pids = interpreters_own()
    # A number that refers to another file than before was closed and opened again: a leak, too.
    left = [
        f"  descriptor {number}: {what}"
        for number, what in sorted(open_fds().items())
        if fds.get(number) != what and number not in own_fds
    ]
    return left + [
        f"  child process {pid}: {what}"
        for pid, what in sorted(children().items())
        if pid not in pids and pid not in own_pids
    ]
