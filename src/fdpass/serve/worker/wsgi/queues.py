"""`Queues`: what the thread of a request and the event loop exchange: parts of the response, parts of the request.

The thread adds parts of the response to a queue, and waits while the queue is full. When the application reads the
request's body, the thread asks the loop for the next part, and waits for it. Each side changes its own fields, and
then looks whether the other side waits: with the GIL no wake-up is lost.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from fdpass.serve.worker.forks import FORKS
from fdpass.serve.worker.http.exchange import Exchange
from fdpass.serve.worker.http.files import FilePart
from fdpass.serve.worker.wsgi.body import ClientGone

_WINDOW = 64 * 1024  # bytes of a response in the queue, before the application has to wait


class Queues:
    """The exchange between one thread and the loop.

    Args:
        exchange: The request.
        notify: Makes the loop call `wake`. From any thread.

    Attributes:
        parts: The queue of parts of the response's body.
        file: The body of the response, if it is a file; None when it is sent.
        ended: Nothing more is added to ``parts``: the response is whole.
        asking: The thread waits for the next part of the request's body.
        over: The thread has left the application.
        changed: `wake` was called.
        since: When the thread entered the application, or last exchanged something with the client
            (`time.monotonic`); 0 while it is not in the application, or waits for the client.
        thread: The number of the thread; 0 before it has begun.
    """

    def __init__(self, exchange: Exchange, notify: Callable[[Any], None]) -> None:
        self._exchange = exchange
        self._notify = notify
        self.parts: deque[bytes] = deque()
        self.file: FilePart | None = None
        self.ended = self.asking = self.over = self.changed = False
        self.since = 0.0
        self.thread = 0
        self._event: threading.Event | None = None  # of the thread
        self._abandoned = self._notified = False
        self._put = self._sent = 0  # bytes that the thread has put into the queue, and the loop has sent
        self._reply: bytes | None = None  # the next part of the request's body
        self._body_ended = False  # `_reply` is the last part
        self._waiter: Any = None  # future; the loop's side waits for `wake`

    @property
    def gone(self) -> bool:
        """Nobody waits for the response any more."""
        return self._abandoned or self._exchange.lost

    # In the event loop

    def wake(self) -> None:
        """The thread has changed something."""
        self._notified = False
        self.changed = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, create_future: Callable[[], Any]) -> None:
        """Wait for `wake`, unless it was called since ``changed`` was cleared."""
        if not self.changed:
            self._waiter = create_future()
            await self._waiter

    def take(self) -> bytes:
        """Take all that is in the queue. When it is sent, `sent` has to be called."""
        parts = [self.parts.popleft() for _ in range(len(self.parts))]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def sent(self, count: int) -> None:
        """So many bytes of the queue were sent, or the file."""
        self.file = None
        self._sent += count
        self._wake_thread()

    def answer(self, part: bytes, *, more: bool) -> None:
        """Give the thread the next part of the request's body.

        Args:
            part: The part; b"" together with ``more``: the rest of the body will not come.
            more: This part is not the last.
        """
        self.asking = False
        self._body_ended = not more
        self._reply = part
        self._wake_thread()

    def abandon(self) -> None:
        """Send and receive nothing more. For the application this is a client that has gone."""
        self._abandoned = True
        self._wake_thread()

    def _wake_thread(self) -> None:
        event = self._event
        if event is not None and not event.is_set():
            event.set()

    # In the thread

    def _enter(self, event: threading.Event) -> None:
        self._event = event
        self.thread = threading.get_ident()

    def _tell(self) -> None:
        """Make the loop's side look."""
        if not self._notified:
            self._notified = True
            self._notify(self)

    def _wait(self, done: Callable[[], bool]) -> None:
        """Wait for the loop's side. In a forked child, which has no loop, end the process.

        Raises:
            ClientGone: The client has gone.
        """
        FORKS.end_child()
        self._tell()
        event = self._event
        assert event is not None
        self.since = 0.0
        while not (done() or self.gone):
            event.clear()
            if not (done() or self.gone):
                event.wait()
        self.since = time.monotonic()
        if not done():
            raise ClientGone("the client has gone")

    def _ask(self) -> bytes:
        """Wait for the next part of the request's body; b"" is its end.

        Raises:
            ClientGone: The end will not come.
        """
        if self._body_ended:
            return b""
        self._reply = None
        self.asking = True
        self._wait(lambda: self._reply is not None)
        reply = self._reply
        assert reply is not None
        if not (reply or self._body_ended):
            raise ClientGone("the client has gone before the end of its request, or has the whole response")
        return reply

    def _queue(self, part: bytes) -> None:
        """Add a part of the response to the queue."""
        self._put += len(part)
        self.parts.append(part)

    def _wait_for_room(self) -> None:
        """Wait until the queue is not full."""
        if self._put - self._sent > _WINDOW:
            self._wait(lambda: self._put - self._sent <= _WINDOW)
