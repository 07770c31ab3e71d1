"""What a connection in custody needs of the engine that serves it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from fdpass.serve.buffers import Buffers
from fdpass.serve.tally import Tally

if TYPE_CHECKING:
    from fdpass.serve.kept import Kept


class Keeper(Protocol):
    """The engine, for whatever keeps connections.

    Attributes:
        buffers: Of this worker.
        scratch: Where is read what shall not be kept.
    """

    buffers: Buffers
    scratch: memoryview


class HttpKeeper(Keeper, Protocol):
    """The engine, for `fdpass.serve.kept.Kept`.

    Attributes:
        app: The application.
        loop: The running loop.
        keep_alive: Seconds that an idle connection is kept.
        tally: Where requests are counted.
        heads: Those whose response has begun, and whose head may wait for its body.
    """

    app: Any
    loop: asyncio.AbstractEventLoop
    keep_alive: float
    tally: Tally
    heads: list[Kept]

    def flush_soon(self) -> None:
        """A first response has begun: call `Kept.flush_head` of all in ``heads`` within a moment."""

    def undrained(self, kept: Kept) -> None:
        """A response waits in the transport: call `Kept.settle` a little later."""

    def ended(self, kept: Kept) -> None:
        """The connection is nobody's here any more, or nobody keeps it."""
