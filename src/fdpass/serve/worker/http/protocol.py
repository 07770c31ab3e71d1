"""`HttpProtocol`: HTTP/1.1 on one connection, from bytes to calls of the application.

Requests are answered one at a time, in order. The application is called when all bytes that have come are parsed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from fdpass.serve.shared.events import Event, about
from fdpass.serve.worker.http.ending import Ending
from fdpass.serve.worker.http.exchange import Exchange
from fdpass.serve.worker.http.parser import Parser, ParserError, check_length, too_large
from fdpass.serve.worker.http.request import Headers
from fdpass.serve.worker.http.response import refusal
from fdpass.serve.worker.http.scope import Scopes
from fdpass.serve.worker.http.wire import HttpEngine
from fdpass.serve.worker.live.uvicorn_class import give_handshake
from fdpass.serve.worker.passed_socket import PassedSocket, unread

log = logging.getLogger("fdpass.serve")
_BODY_MAX = 64 * 1024  # bytes of a body that wait for the application, before the client has to


class HttpProtocol(Ending):
    """The protocol of one connection.

    Args:
        engine: Who serves it.
        passed: Its socket. Lent.
    """

    _body = 0  # bytes that have come of the present body, if there is a limit

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
        self._refusal: ParserError | None = None  # why what came behind the requests in progress is refused
        self._leaves = False  # the connection ends with the next response
        self._awaits_head = False
        self._handshake = b""  # of a WebSocket, whose turn has not come yet
        self._headers: Headers = []  # of the last request that the parser has read, as they came

    # The connection

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.BaseProtocol`."""
        self.wire = transport
        tls = self._passed.tls_by_proxy or transport.get_extra_info("sslcontext") is not None
        self._scopes = Scopes(self.engine, self._passed, transport.extensions, tls=tls)
        self.engine.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the application learns that it is lost
        """See `asyncio.BaseProtocol`."""
        self.engine.connections.discard(self)
        self.engine.idle.discard(self)
        if self._awaits_head:
            self._head_came()
        for exchange in (self._current, *(self._queue or ())):
            if exchange is not None and not exchange.complete:
                exchange.lost = True
                exchange.wake()
        self.resume_writing()
        if self._parser is not None:
            self._parser.forget()
        self._queue = self._incoming = self._current = None  # they refer to this

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
        """See `fdpass.serve.worker.http.wire.Connection`. If requests wait, their responses come first."""
        if self._paused and not (self._queue or self._refusal or self._handshake):
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
        method, target, headers, closes, body, forwarded = known
        scope = self._scopes.make(method, "1.1", target, headers)
        if forwarded is not None and self._scopes.trusted:
            forwarded.apply(scope)
        exchange = Exchange(self, scope, closes or self._leaves, False, False)
        exchange.body, exchange.whole = body, True
        self._incoming = self._current = exchange
        engine.idle.discard(self)
        if self._awaits_head:
            self._head_came()
        self.wire.called(scope)
        engine.start_exchange(exchange)
        return True

    def _parse(self, data: bytes) -> None:
        engine, parser = self.engine, self._parser
        engine.idle.discard(self)
        if parser is None:
            parser = self._parser = Parser(self, engine.head_max)
        if self._handshake:  # RFC 6455, 4.1
            self._refuse(ParserError("bytes came behind the handshake of a WebSocket, before its answer"))
            return
        from_start = not parser.partial
        try:
            parser.feed(data)
        except ParserError as error:
            parser.stopped = True
            self._refuse(error)
        if self._handshake and not self.is_busy:
            self._become_websocket()
            return
        fresh, self._fresh = self._fresh, None
        if fresh is not None:
            if from_start and fresh.is_plain and not self._leaves:
                engine.known.add(data, self._headers, fresh.body, closes=fresh.closes)
            self._start(fresh, engine.start_exchange)
        elif not self.is_busy:
            if self._has_part_of_a_head:
                self.await_head()
            elif self._current is not None:
                engine.idle.add(self)  # an empty line came, or a part of a body behind its response

    def _start(self, exchange: Exchange, start: Callable[[Exchange], None]) -> None:
        self.wire.called(exchange.scope)
        start(exchange)

    # What is refused

    def _refuse(self, error: ParserError) -> None:
        """Refuse what came, after the responses that are due, and read no more."""
        extra = about(Event.REQUEST_REFUSED, connection=self._passed.slot)
        log.warning("%s gets a %d: %s", self._scopes.client_name, error.status, error, extra=extra)
        self._handshake = b""
        self._refusal = error
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
            self._read_no_more()
        else:
            self._send_refusal()

    def _send_refusal(self) -> None:
        assert self._refusal is not None
        has_body = self._incoming is not None and not self._incoming.whole
        if has_body or self._refusal.status != 400 or unread(self._passed.fileno()):
            self.wire.linger()
        self.engine.count.seconds[self._refusal.status].append(0.0)
        self.wire.write(refusal(self.engine.date, self._refusal.status))
        self.wire.close()

    # What the parser finds

    def head_parsed(
        self, method: str, version: str, target: bytes, headers: Headers, *, keeps: bool, expects: bool
    ) -> None:
        """See `fdpass.serve.worker.http.parser.Requests`."""
        if self._awaits_head:
            self._head_came()
        if self.engine.body_max:
            self._body = 0
            check_length(headers, self.engine.body_max)
        old = version == "1.0"
        scope = self._scopes.make(method, version, target, headers)
        self._headers = headers
        if self._scopes.trusted and (forwarded := self.engine.forwarding.read(headers)) is not None:
            forwarded.apply(scope)
        exchange = self._incoming = Exchange(
            self,
            scope,
            old or self._leaves or not keeps,
            old and not self._passed.is_unix,
            expects and version != "1.0",  # RFC 9110, 10.1.1
        )
        if not self.is_busy:
            self._fresh = self._current = exchange
            return
        self._queue = self._queue or deque()
        self._queue.append(exchange)
        self.wire.linger()  # if the connection ends before it is served
        self._read_no_more()

    def body_parsed(self, body: bytes) -> None:
        """See `fdpass.serve.worker.http.parser.Requests`."""
        exchange, body_max = self._incoming, self.engine.body_max
        if body_max:
            self._body += len(body)
            if self._body > body_max:
                raise too_large(body_max)
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
        if self._awaits_head:
            self._head_came()
        if self.is_busy:
            self._read_no_more()
        return True

    def _become_websocket(self) -> None:
        """Let another protocol have the connection and the handshake."""
        assert self.engine.websocket is not None
        wire, protocol, is_full = self.wire, self.engine.websocket(self._passed), self.full is not None
        handshake, self._handshake = self._handshake, b""
        self.connection_lost(None)
        if wire.hand_over(self.engine.websockets, protocol, handshake):
            return
        protocol.connection_made(wire)
        wire.set_protocol(protocol)
        if is_full:  # of the response before
            wire.get_protocol().pause_writing()
        give_handshake(protocol, handshake)
        if not wire.is_closing():
            self.resume_reading()

    # What an exchange tells

    def responded(self, exchange: Exchange) -> None:
        """See `fdpass.serve.worker.http.wire.Connection`."""
        engine = self.engine
        now = monotonic()
        engine.count.seconds[exchange.status].append(now - exchange.began)
        if self._paused and not exchange.closes:
            self._proceed()
        elif not exchange.closes:
            engine.idle.add_at(self, now)

    def _proceed(self) -> None:
        """Serve what has come behind the request that was just answered."""
        if self._queue:
            self._current = self._queue.popleft()
            self._current.gone = self._client_ended and self._current.whole
            # At once would recurse for each in the queue.
            self._start(self._current, self.engine.start_exchange_soon)
        elif self._refusal is not None:
            self._send_refusal()
        elif self._handshake:
            self._become_websocket()
        else:
            self.engine.idle.add(self)
            self.resume_reading()

    def failed(self, exchange: Exchange) -> None:
        """See `fdpass.serve.worker.http.wire.Connection`. The next request, if there is one, goes on."""
        if exchange is self._current:
            if not exchange.whole:
                self.wire.linger()
            self.wire.close()

    def over(self, exchange: Exchange) -> None:
        """See `fdpass.serve.worker.http.wire.Connection`."""
        self.engine.exchanges.discard(exchange)
        exchange.task = None
        if not exchange.complete:
            self.engine.count.unanswered += 1
