"""What a connection in custody needs of the engine that serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fdpass.serve.buffers import Buffers
from fdpass.serve.poller import Poller
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
        poller: Where connections are watched.
        tally: Where requests are counted.
    """

    app: Any
    poller: Poller
    tally: Tally

    def flush_soon(self, kept: Kept) -> None:
        """Call `Kept.flush` within a moment."""

    def ended(self, kept: Kept) -> None:
        """The connection is nobody's here any more, or nobody keeps it."""
