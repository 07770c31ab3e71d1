"""`three`: the servers that the corpus is sent to."""

import contextlib
import logging

import pytest

from .quiet import quiet_loop


@pytest.fixture
def three():
    """The servers."""
    pytest.importorskip("httptools")
    pytest.importorskip("uvicorn")

    from .three import Three

    logging.disable(logging.CRITICAL)
    with quiet_loop() as loop, contextlib.ExitStack() as held:
        yield Three(loop, held)
    logging.disable(logging.NOTSET)
