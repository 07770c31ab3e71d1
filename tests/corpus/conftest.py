"""`three`: the servers that the corpus is sent to."""

import contextlib
import logging

import pytest

from .quiet import quiet_loop


@pytest.fixture(params=["httptools", "h11"])
def three(monkeypatch, request):
    """The servers, with each parser."""
    pytest.importorskip(request.param)
    import uvicorn.config

    from .three import Three

    monkeypatch.setitem(uvicorn.config.HTTP_PROTOCOLS, "auto", uvicorn.config.HTTP_PROTOCOLS[request.param])
    logging.disable(logging.CRITICAL)
    with quiet_loop() as loop, contextlib.ExitStack() as held:
        yield Three(loop, held)
    logging.disable(logging.NOTSET)
