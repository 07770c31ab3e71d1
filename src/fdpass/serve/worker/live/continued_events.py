"""`ContinuedEvents`: the transport of another worker's event stream, until the application responds again."""

from __future__ import annotations

import logging
import select
from collections.abc import Callable
from typing import Any, NamedTuple

from fdpass.serve.shared.pages import Page
from fdpass.serve.worker.custody.state import load_state
from fdpass.serve.worker.live.event_heads import agreed_by, behind_head, with_last_id
from fdpass.serve.worker.live.events import Events
from fdpass.serve.worker.live.events_custody import INTERIM, OpenEvents
from fdpass.serve.worker.live.paths import path_of
from fdpass.serve.worker.transport.base import NOW, Transport
from fdpass.serve.worker.transport.http_custody import HttpCustody

log = logging.getLogger("fdpass.serve")
_LIVED_SECONDS = 0.5  # after which a worker's death is not taken for the stream's fault


class _Continuation(NamedTuple):
    """See `ContinuedEvents.prepare`."""

    page: Page
    begun: Callable[[], None]


class ContinuedEvents(OpenEvents):
    """An event stream is open that another worker has sent, and the application has not begun its response."""

    __slots__ = ()
    is_resumable = True

    def prepare(self, page: Page, unsent: bytes, begun: Callable[[], None]) -> None:
        """Before `start`: tell what is known of the stream.

        Args:
            page: Has the request, and what was agreed.
            unsent: The other worker's backlog.
            begun: Called when the application has begun its response, or will not do so.
        """
        self._live = _Continuation(page, begun)
        if unsent:
            self._backlog += unsent
            self._wanted |= select.EPOLLOUT

    def _first(self) -> None:
        self._begun = True
        if self._held:  # behind the request
            self._reader.begin(self._held)
            self._reader.read += len(self._held)
            Transport.read_no_more(self)
        self._protocol.data_received(with_last_id(self._live.page.head, load_state(self.words)))

    def called(self, scope: dict[str, Any]) -> None:
        """See `Wire`."""
        self._about = scope["extensions"]["fdpass"] = {
            "attempt": self._attempt - 1,
            "slot": self.passed.slot,
            "resumed": self._live.page.resumed,
            "age": self._live.page.age,
            "moved": False,
        }

    def write(self, data: Any, flags: int = NOW) -> None:
        """See `asyncio.WriteTransport`."""
        if data[: len(INTERIM)] != INTERIM and self._agrees(data):
            self.write(behind_head(data), flags)

    def respond(self, data: bytes, last: bool) -> None:
        """See `Wire`."""
        if self._agrees(data):
            self.respond(behind_head(data), last=last)

    def announce(self, count: int, *, last: bool) -> None:  # noqa: ARG002 - the connection ends
        """See `Wire`. The response is a file: it has no events."""
        self._refuse("a file")

    def _agrees(self, data: bytes) -> bool:
        """The application responds: whether the client can take the response for the rest of the one it has."""
        if self._closing:
            return False
        if agreed_by(data) != self._live.page.agreed:
            self._refuse(data[9:12].decode())
            return False
        self._live.begun()
        self._go_on_with(Events(load_state(self.words)))
        self._poller.loop.call_later(_LIVED_SECONDS, self._has_lived)
        return True

    def _let_go(self) -> None:
        self._live.begun()
        HttpCustody._let_go(self)  # noqa: SLF001 - of the base class

    def _refuse(self, answer: str) -> None:
        """Reset the connection, so that the client asks anew, and gets this response."""
        path = ascii(path_of(self._live.page.head))[1:-1]
        log.warning(
            "reset: the application does not continue its event stream, but answers %s: GET %s", answer, path
        )
        self.cut(reset=True)
