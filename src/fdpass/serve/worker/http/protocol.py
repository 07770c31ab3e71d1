"""`HttpProtocol`: HTTP/1.1 on one connection, from bytes to calls of the application.

Requests are answered one at a time, in order. The application is called when all bytes that have come are parsed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from fdpass.serve.worker.http.exchange import Exchange
from fdpass.serve.worker.http.parser import Parser, ParserError
from fdpass.serve.worker.http.request import Headers
from fdpass.serve.worker.http.response import refusal
from fdpass.serve.worker.http.scope import Scopes
from fdpass.serve.worker.http.wire import HttpEngine, Wire
from fdpass.serve.worker.passed_socket import PassedSocket, unread

log = logging.getLogger("fdpass.serve")
_BODY_MAX = 64 * 1024  # bytes of a body that wait for the application, before the client has to


class HttpProtocol(asyncio.Protocol):
    """The protocol of one connection.

    Args:
        engine: Who serves it.
        passed: Its socket. Lent.

    Attributes:
        wire: Its transport, once there is one.
        full: See `fdpass.serve.worker.http.exchange.Connection`.
    """

    wire: Wire

    def __init__(self, engine: HttpEngine, passed: PassedSocket) -> None:
        self.engine = engine
        self.full: asyncio.Event | None = None
        self._passed = passed
        self._parser: Parser | None = None  # until the first request that is not known
        self._current: Exchange | None = None  # whose response is due, or was the last one
        self._incoming: Exchange | None = None  # whose request is being read, or was the last one
        self._fresh: Exchange | None = None  # to be started when all bytes that came are parsed
        self._queue: deque[Exchange] | None = None  # whose responses are due after the current one
        self._paused = False
        self._refuses = False  # behind the requests in progress came something that is no request
        self._leaves = False  # the connection ends with the next response
        self._handshake = b""  # of a WebSocket, whose turn has not come yet

    # The connection

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.BaseProtocol`."""
        self.wire = transport
        tls = self._passed.tls_by_proxy or transport.get_extra_info("sslcontext") is not None
        self._scopes = Scopes(self.engine, self._passed, tls)
        self.engine.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the application learns that it is lost
        """See `asyncio.BaseProtocol`."""
        self.engine.connections.discard(self)
        self.engine.idle.discard(self)
        for exchange in (self._current, *(self._queue or ())):
            if exchange is not None and not exchange.complete:
                exchange.lost = True
                exchange.wake()
        self.resume_writing()
        if self._parser is not None:
            self._parser.forget()
        self._queue = self._incoming = self._current = None  # they refer to this

    def eof_received(self) -> None:
        """See `asyncio.Protocol`: the connection ends."""
        self.stop()

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        if self.full is None:
            self.full = asyncio.Event()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        if self.full is not None:
            self.full.set()
            self.full = None

    def resume_reading(self) -> None:
        """See `fdpass.serve.worker.http.exchange.Connection`. If requests wait, their responses come first."""
        if self._paused and not (self._queue or self._refuses or self._handshake):
            self._paused = False
            self.wire.resume_reading()

    def _read_no_more(self) -> None:
        """Pause reading until responses are sent, but notice the client's end."""
        self._paused = True
        self.wire.read_no_more()

    # What comes

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if not self.known_received(data):
            self._parse(data)

    def known_received(self, data: bytes) -> bool:
        """If ``data`` are a request whose headers are known, serve it; else do nothing, and return False."""
        engine, parser, current = self.engine, self._parser, self._current
        known = engine.known.find(data)
        if (
            known is None
            or (current is not None and not current.complete)
            or (parser is not None and (parser.partial or parser.stopped))
        ):
            return False
        method, target, headers, closes, body = known
        scope = self._scopes.make(method, "1.1", target, headers)
        exchange = Exchange(self, scope, closes or self._leaves, False, False)
        exchange.body, exchange.whole = body, True
        self._incoming = self._current = exchange
        engine.idle.discard(self)
        self.wire.called(scope)
        engine.count.begun += 1
        engine.start_exchange(exchange)
        return True

    def _parse(self, data: bytes) -> None:
        engine, parser = self.engine, self._parser
        engine.idle.discard(self)
        if self._handshake:
            self._refuse()  # RFC 6455, 4.1: the client has to wait for the answer
            return
        if parser is None:
            parser = self._parser = Parser(self)
        from_start = not parser.partial
        try:
            parser.feed(data)
        except ParserError:
            log.warning("a client sent what is not HTTP/1.1, and gets a 400")
            parser.stopped = True
            self._refuse()
        if self._handshake and not self.is_busy:
            self._become_websocket()
            return
        fresh, self._fresh = self._fresh, None
        if fresh is not None:
            if from_start and fresh.is_plain and not self._leaves:
                engine.known.add(data, fresh.scope["headers"], fresh.body, closes=fresh.closes)
            self._start(fresh, engine.start_exchange)
        elif self._current is not None and not (self.is_busy or parser.partial):
            engine.idle.add(self)  # only an empty line came

    def _start(self, exchange: Exchange, start: Callable[[Exchange], None]) -> None:
        self.wire.called(exchange.scope)
        self.engine.count.begun += 1
        start(exchange)

    # What is refused

    def _refuse(self) -> None:
        """Something came that is no request: answer 400 after the responses that are due, and read no more."""
        self._handshake = b""
        broken = self._incoming
        if broken is not None and not broken.whole:  # a request whose body is broken
            if broken is self._fresh:
                self._fresh = self._current = None
            elif broken is not self._current:
                assert self._queue is not None
                self._queue.remove(broken)
            else:
                (broken.cut if broken.started else self._send_refusal)()
                return
        if self._current is not None and not self._current.complete:
            self._refuses = True
            self._read_no_more()
        else:
            self._send_refusal()

    def _send_refusal(self) -> None:
        self.wire.write(refusal(self.engine.date, b"Invalid HTTP request received."))
        self.wire.close()

    # What the parser finds

    def head_parsed(
        self, method: str, version: str, target: bytes, headers: Headers, *, keeps: bool, expects: bool
    ) -> None:
        """See `fdpass.serve.worker.http.parser.Requests`."""
        old = version == "1.0"
        exchange = self._incoming = Exchange(
            self,
            self._scopes.make(method, version, target, headers),
            old or self._leaves or not keeps,
            old and not self._passed.is_unix,
            expects and version != "1.0",  # RFC 9110, 10.1.1
        )
        if not self.is_busy:
            self._fresh = self._current = exchange
            return
        self._queue = self._queue or deque()
        self._queue.append(exchange)
        self._read_no_more()

    def body_parsed(self, body: bytes) -> None:
        """See `fdpass.serve.worker.http.parser.Requests`."""
        exchange = self._incoming
        if exchange is not None and not exchange.complete:
            exchange.body += body
            if len(exchange.body) > _BODY_MAX and not self._paused:
                self._paused = True
                self.wire.pause_reading()
            exchange.wake()

    def end_parsed(self, *, keeps: bool) -> None:
        """See `fdpass.serve.worker.http.parser.Requests`."""
        exchange = self._incoming
        if exchange is not None:
            exchange.whole = True
            exchange.closes |= not keeps
            exchange.wake()
            if exchange.complete:
                self.engine.idle.add(self)

    def websocket_parsed(self, handshake: bytes) -> bool:
        """See `fdpass.serve.worker.http.parser.Requests`."""
        if self.engine.websocket is None:
            return False
        self._handshake = handshake
        if self.is_busy:
            self._read_no_more()
        return True

    def _become_websocket(self) -> None:
        """Let another protocol have the connection and the handshake."""
        assert self.engine.websocket is not None
        wire, protocol, is_full = self.wire, self.engine.websocket(), self.full is not None
        handshake, self._handshake = self._handshake, b""
        self.connection_lost(None)
        protocol.connection_made(wire)
        wire.set_protocol(protocol)
        if is_full:  # of the response before
            protocol.pause_writing()
        protocol.data_received(handshake)
        if not wire.is_closing():
            self.resume_reading()

    # What an exchange tells

    def responded(self, exchange: Exchange) -> None:
        """See `fdpass.serve.worker.http.exchange.Connection`."""
        engine = self.engine
        engine.count.over += 1
        if self._paused and not exchange.closes:
            self._proceed()
        elif not exchange.closes:
            engine.idle.add(self)

    def _proceed(self) -> None:
        """Serve what has come behind the request that was just answered."""
        if self._queue:
            self._current = self._queue.popleft()
            # At once would recurse for each in the queue.
            self._start(self._current, self.engine.start_exchange_soon)
        elif self._refuses:
            self._send_refusal()
        elif self._handshake:
            self._become_websocket()
        else:
            self.engine.idle.add(self)
            self.resume_reading()

    def failed(self, exchange: Exchange) -> None:
        """See `fdpass.serve.worker.http.exchange.Connection`. The next request, if there is one, goes on."""
        if exchange is self._current:
            self.wire.close()

    def over(self, exchange: Exchange) -> None:
        """See `fdpass.serve.worker.http.exchange.Connection`."""
        self.engine.exchanges.discard(exchange)
        exchange.task = None
        if not exchange.complete:
            self.engine.count.over += 1

    # Its end

    @property
    def is_busy(self) -> bool:
        """A response is due."""
        return self._current is not None and not self._current.complete

    def retire(self) -> None:
        """The worker retires: let another worker have the connection as soon as it is idle, or end it then."""
        if not self.wire.leave():
            self.shutdown()

    def shutdown(self) -> None:
        """End the connection as soon as it is idle; a request that has come is answered first. May be repeated."""
        self._leaves = True
        if self.is_busy or self._queue:
            assert self._current is not None
            (self._queue[-1] if self._queue else self._current).closes = True
        elif not (self._has_part_of_a_head or self.wire.is_closing()) and self._is_quiet():
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

    @property
    def _has_part_of_a_head(self) -> bool:
        partial = self._parser is not None and self._parser.partial
        return partial and (self._incoming is None or self._incoming.whole)

    def _is_quiet(self) -> bool:
        """Whether nothing waits: neither to be sent, nor to be served, nor to be read."""
        return self.wire.quiet and not unread(self._passed.fileno())
