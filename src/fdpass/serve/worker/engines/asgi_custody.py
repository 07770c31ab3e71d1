"""`AsgiCustody`: connections in custody of an ASGI worker: new ones, idle ones, open streams of other workers."""

from __future__ import annotations

from functools import partial
from typing import Any

from fdpass.serve.shared import pages
from fdpass.serve.shared.slots import OPEN, WORDS, WRITTEN, slot_of
from fdpass.serve.worker.custody.buffers import Buffers, new_scratch
from fdpass.serve.worker.http.protocol import HttpProtocol
from fdpass.serve.worker.live.event_streams import EventStreams
from fdpass.serve.worker.live.events_custody import EventsCustody
from fdpass.serve.worker.live.stream_memory import StreamMemory
from fdpass.serve.worker.live.websockets import WebSockets
from fdpass.serve.worker.parking import Parking
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.transport.http_custody import HttpCustody


class AsgiCustody:
    """Gives each connection the transport that it needs.

    Args:
        engine: See `fdpass.serve.worker.http.wire.HttpEngine`.
        slots: Of all connections.
        buffers: Of this worker.
        keep_alive: Seconds for which a connection may be idle.

    Attributes:
        websockets: All WebSockets.
    """

    def __init__(self, engine: Any, slots: memoryview, buffers: Buffers, keep_alive: float) -> None:
        self._engine = engine
        self._slots, self._buffers = slots, buffers
        self._scratch = new_scratch()
        self._transport = EventsCustody if engine.resume else HttpCustody
        self._parking = Parking(engine.poller, keep_alive, self._serve)
        memory = StreamMemory(slots, buffers, self._scratch, engine.pages, engine.resume)
        self.websockets = WebSockets(engine.poller, memory, engine.websocket if engine.resume else None)
        self._event_streams = EventStreams(engine.poller, memory, partial(HttpProtocol, engine))

    def take(self, passed: PassedSocket) -> None:
        """Serve a connection."""
        written = self._slots[passed.slot * WORDS + WRITTEN]
        if written & OPEN:
            self._resume(passed)
        elif written and not passed.read:
            self._parking.add(passed)  # it came idle from another worker
        else:
            self._serve(passed)

    def _serve(self, passed: PassedSocket) -> None:
        words = slot_of(self._slots, passed.slot)
        transport = self._transport(self._engine.poller, passed, words, self._buffers, self._scratch)
        transport.start(HttpProtocol(self._engine, passed))

    def _resume(self, passed: PassedSocket) -> None:
        """Continue an open stream: call the application as for a new client."""
        is_websocket = pages.kind_of(self._engine.pages, passed.slot) == pages.WEBSOCKET
        (self.websockets if is_websocket else self._event_streams).resume(passed)

    def finish(self, *, retiring: bool) -> None:
        """End what is idle; or, if the worker retires, give it back, and let WebSockets move when they can."""
        if retiring:
            self._parking.give_back()
            self.websockets.retire()
            self._event_streams.retire()
        else:
            self._parking.end()
            self.websockets.end()
            self._event_streams.end()
