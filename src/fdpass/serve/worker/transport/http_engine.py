"""`HttpEngine`: what an HTTP connection in custody needs of the engine that serves it."""

from __future__ import annotations

from typing import Any, Protocol

from fdpass.serve.worker.custody.buffers import Buffers
from fdpass.serve.worker.poller import Poller
from fdpass.serve.worker.request_count import RequestCount
from fdpass.serve.worker.transport.coalescing import Coalescing


class HttpEngine(Protocol):
    """The engine, for its connections.

    Attributes:
        app: The application.
        poller: Where connections are watched.
        tally: Where requests are counted.
        buffers: Of this worker.
        scratch: Where to read when no buffer is free.
    """

    app: Any
    poller: Poller
    tally: RequestCount
    buffers: Buffers
    scratch: memoryview

    def flush_soon(self, connection: Coalescing) -> None:
        """Call `Coalescing.flush` within a moment."""

    def ended(self, connection: Any) -> None:
        """The connection has ended here, or no longer needs the engine."""
