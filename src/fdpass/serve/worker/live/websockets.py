"""`WebSockets`: all WebSockets in custody of one worker: new ones, and those that other workers have opened."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

from fdpass.serve.shared import pages
from fdpass.serve.shared.slots import ATTEMPT, FINAL_END, POSITION, WRITTEN, WROTE, slot_of
from fdpass.serve.worker.custody.reader import Reader
from fdpass.serve.worker.idle_timer import IdleTimer
from fdpass.serve.worker.live.opening import Opening, Resuming
from fdpass.serve.worker.live.paths import is_resumable, path_of
from fdpass.serve.worker.live.resume_queue import ResumeQueue
from fdpass.serve.worker.live.stream_memory import StreamMemory
from fdpass.serve.worker.live.websocket import LiveWebSocket
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.poller import Poller

_LIVED_SECONDS = 0.5  # after which an idle WebSocket has shown that it is not what its last worker died of
_HANDSHAKE_MAX = pages.HEAD_SIZE - 1024  # bytes; what the 101 says has to fit into the page, too
_BATCH = 100  # of WebSockets that leave at once; then the loop gets its turn


class WebSockets:
    """See `fdpass.serve.worker.live.delivery.Owner`.

    Args:
        poller: Watches the connections.
        memory: See `StreamMemory`.
        make: Makes a protocol of uvicorn's for a connection that another worker had; None if the settings have no
            path for that, or no package for WebSockets is installed.
    """

    def __init__(self, poller: Poller, memory: StreamMemory, make: Callable[[PassedSocket], Any] | None) -> None:
        self.poller = poller
        self.pages = memory.pages
        self.retiring = self.late = self.finishing = False
        self._memory = memory
        self._make = make
        self._all: set[LiveWebSocket] = set()
        self._queue = ResumeQueue(poller.loop, self._begin)
        self._young = IdleTimer(poller.loop, _LIVED_SECONDS, LiveWebSocket.outlived)

    def open(
        self,
        passed: PassedSocket,
        words: memoryview,
        reader: Reader,
        *,
        wrote: int,
        protocol: Any,
        handshake: bytes,
    ) -> None:
        """Let a new WebSocket's protocol have a connection, of which the last thing read is the handshake.

        Args:
            passed: The connection. Given.
            words: Its slot.
            reader: Has read it.
            wrote: How many bytes were written to it, ever.
            protocol: Of the WebSocket.
            handshake: What the protocol is given.
        """
        passed.read = b""  # the handshake, if another worker had read it
        websocket = Opening(self, passed, words, reader, wrote)
        self._all.add(websocket)
        resumable = len(handshake) <= _HANDSHAKE_MAX and is_resumable(path_of(handshake), self._memory.prefixes)
        page = pages.Page(pages.WEBSOCKET, 0, handshake, b"", time.monotonic_ns())
        websocket.prepare(protocol, page, resumable=resumable)
        websocket.start(protocol)

    def resume(self, passed: PassedSocket) -> None:
        """Continue a WebSocket of another worker, as soon as not too many others wait for their applications."""
        words = slot_of(self._memory.slots, passed.slot)
        reader = Reader(words, self._memory.buffers, self._memory.scratch, passed.is_unix)
        websocket = Resuming(self, passed, words, reader, words[WRITTEN] & POSITION)
        self._all.add(websocket)
        unsent = pages.backlog(self.pages, passed.slot, words[WROTE])[0] if words[FINAL_END] else b""
        websocket.wait(unsent)
        if self.retiring:
            websocket.move_if_settled()
        elif self.finishing:
            websocket.refuse()
        else:
            self._queue.add(websocket)

    def _begin(self, websocket: Resuming) -> None:
        slot = websocket.passed.slot
        page = pages.load(self.pages, slot)
        if self._make is None or not is_resumable(path_of(page.head), self._memory.prefixes):
            websocket.refuse()  # the settings or the packages have changed
            return
        pages.count_resumed(self.pages, slot)
        websocket.words[ATTEMPT] += 1
        protocol = self._make(websocket.passed)
        websocket.prepare(protocol, page._replace(resumed=page.resumed + 1), resumable=True)
        websocket.start(protocol)

    def accepted(self, websocket: LiveWebSocket) -> None:
        """See `Owner`."""
        self._queue.discard(websocket)
        if websocket.words[ATTEMPT]:
            self._young.add(websocket)

    def forget(self, websocket: LiveWebSocket) -> None:
        """See `Owner`."""
        self._all.discard(websocket)
        self._queue.discard(websocket)
        self._young.discard(websocket)

    # The end

    def retire(self) -> None:
        """Let WebSockets go on in other workers, each as soon as it can."""
        self.retiring = self.finishing = True
        self._let_go(iter(list(self._all)))

    def _let_go(self, websockets: Iterator[LiveWebSocket]) -> None:
        batch = list(itertools.islice(websockets, _BATCH))
        for websocket in batch:
            websocket.move_if_settled()
        if batch:
            self.poller.loop.call_soon(self._let_go, websockets)

    def move_late(self) -> None:
        """The worker's time is over: move WebSockets, too, whose applications only send, or are slow to begin."""
        self.late = True
        for websocket in list(self._all):
            websocket.move_if_settled()

    def end(self) -> None:
        """End those whose applications were not called yet; uvicorn ends the others."""
        self.retiring, self.finishing = False, True
        for websocket in self._queue.take_all():
            websocket.refuse()
