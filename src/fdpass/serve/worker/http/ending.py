"""`Ending`: how an HTTP connection ends: with its client, with its worker, or because nothing comes."""

from __future__ import annotations

import asyncio
from collections import deque

from fdpass.serve.worker.http.exchange import Exchange
from fdpass.serve.worker.http.parser import Parser, ParserError
from fdpass.serve.worker.http.wire import HttpEngine, Wire
from fdpass.serve.worker.live.event_heads import has_events
from fdpass.serve.worker.passed_socket import PassedSocket, unread


class Ending(asyncio.Protocol):
    """The part of `fdpass.serve.worker.http.protocol.HttpProtocol` that ends the connection.

    Attributes:
        wire: The transport, once there is one.
        engine: See `fdpass.serve.worker.http.wire.Connection`.
        full: See `fdpass.serve.worker.http.wire.Connection`.
    """

    wire: Wire
    engine: HttpEngine
    full: asyncio.Event | None
    _passed: PassedSocket
    _parser: Parser | None
    _current: Exchange | None
    _incoming: Exchange | None
    _queue: deque[Exchange] | None
    _refusal: ParserError | None
    _handshake: bytes
    _leaves: bool
    _client_ended = False
    _event_stream: Exchange | None = None  # whose response was the last one that is an event stream
    _awaits_head: bool  # the time for the head of the next request runs

    @property
    def is_busy(self) -> bool:
        """A response is due."""
        return self._current is not None and not self._current.complete

    def eof_received(self) -> bool | None:
        """See `asyncio.Protocol`: the client gets the responses that are due, and then the connection ends."""
        incoming, queue = self._incoming, self._queue
        if incoming is not None and not incoming.whole:  # its body will not come
            if not queue or incoming is not queue[-1]:
                self.stop()
                return None
            queue.pop()
        if not self.is_busy:
            self.stop()
            return None
        self._handshake = b""
        if self._refusal is None:
            self.shutdown()
        self.client_ended()
        return True

    def client_ended(self) -> None:
        """The client has ended its side: the application receives http.disconnect, but may still respond."""
        self._client_ended = True
        if self._current is not None and self._current.whole:
            self._current.gone = True
            self._current.wake()

    def retire(self) -> None:
        """The worker retires: let another worker have the connection as soon as it is idle, or end it then."""
        if not self.wire.leave():
            self.shutdown()

    def move(self) -> None:
        """The worker's time is over: let another worker continue an event stream now, or end the connection."""
        if not self.wire.move():
            self.shutdown()
        elif self._current is not None:
            self._current.given_up = True

    def begin(self, exchange: Exchange, data: bytes) -> None:
        """See `fdpass.serve.worker.http.wire.Connection`."""
        if has_events(data):
            self._event_stream = exchange
        self.wire.write(data)

    @property
    def has_events(self) -> bool:
        """The response in progress is an event stream, which ends with this worker."""
        current, wire = self._current, self.wire
        return (
            current is not None
            and current is self._event_stream
            and not (current.complete or wire.is_closing() or wire.is_resumable)
        )

    def end_events(self) -> None:
        """The worker's time is over for this client: cut its event stream, as `Exchange.give_up` does."""
        current = self._current
        if current is not None:
            current.given_up = True
            current.cut()
            current.lost = True
            current.wake()

    def shutdown(self) -> None:
        """End the connection as soon as it is idle; a request that has come is answered first. May be repeated."""
        self._leaves = True
        if self.is_busy or self._queue:
            assert self._current is not None
            (self._queue[-1] if self._queue else self._current).closes = True
        elif not (self._has_part_of_a_head or self._awaits_first or self.wire.is_closing()) and self._is_quiet():
            if self._incoming is not None and not self._incoming.whole:  # it was answered before its body came
                self.wire.linger()
            self.wire.close()

    def stop(self) -> None:
        """End the connection now; with an error, if the client would take its end for that of a response."""
        current = self._current
        if current is not None and not current.complete and current.lasts_until_close:
            current.cut()
        self.wire.close()

    def expire(self) -> None:
        """The connection was idle for too long: end it, unless a request has come in this moment."""
        if self.wire.is_closing() or self._is_quiet():
            self.wire.close()
        else:
            self.engine.idle.add(self)

    def settled(self) -> None:
        """The connection is made, and what had come by then was read: if that was no request, one has to come."""
        if self._current is None and self in self.engine.connections:
            self.await_head()

    def await_head(self) -> None:
        """Let the time for the head of the next request run, if it does not run yet."""
        timer = self.engine.head_timer
        if not self._awaits_head and timer is not None:
            self._awaits_head = True
            timer.add(self)

    def _head_came(self) -> None:
        timer = self.engine.head_timer
        if timer is not None:
            self._awaits_head = False
            timer.discard(self)

    def expire_head(self) -> None:
        """The head of the next request did not come in time: end the connection, unless more has come just now."""
        if not self.wire.is_closing() and unread(self._passed.fileno()):
            assert self.engine.head_timer is not None
            self.engine.head_timer.add(self)
        else:
            self.wire.close()

    @property
    def _has_part_of_a_head(self) -> bool:
        partial = self._parser is not None and self._parser.partial
        return partial and (self._incoming is None or self._incoming.whole)

    @property
    def _awaits_first(self) -> bool:
        return self.engine.awaits_first and self._current is None and self._parser is None

    def _is_quiet(self) -> bool:
        """Whether nothing waits: neither to be sent, nor to be served, nor to be read."""
        return self.wire.quiet and not unread(self._passed.fileno())
