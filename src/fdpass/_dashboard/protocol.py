"""`Protocol`: uvicorn's HTTP/1.1, with bounds that keep a client from holding the dashboard against others."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_CONNECTIONS = 256
"""Open connections; one more closes the connection that has been idle the longest."""

MOST_OVERHEAD = 64 * 1024
"""Bytes of a request without its body: the head, the sizes of chunks, the trailer fields."""

MOST_PIPELINED = 16
"""Requests of a connection that wait for the response to an earlier one."""

SECONDS = 10.0
"""Within which a client has to send a whole request, and to take a part of a response that waits for it."""

_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Protocol(HttpToolsProtocol):
    """One connection.

    uvicorn has no bound for a head, nor for the time in which a request comes; and it answers every request with
    503 while there are too many connections, even if these send nothing. Nothing is logged about a closed
    connection: a client could fill the log.

    Args:
        config: Of uvicorn, as the others.
    """

    def __init__(self, config: Any, server_state: Any, app_state: Any, _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._overhead = 0  # bytes of the request that comes, without its body
        self._request_due: asyncio.TimerHandle | None = None  # set from a request's first byte to its last
        self._read_due: asyncio.TimerHandle | None = None  # set while the client reads too slowly
        self._idle_since = 0.0

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._await_request()
        if len(self.connections) > MOST_CONNECTIONS:
            others: Any = self.connections
            min((each for each in others if each._idle), key=lambda each: each._idle_since)._drop()  # noqa: SLF001

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._idle:
            self._await_request()  # also for empty lines before a request, of which the parser tells nothing
        self._overhead += len(data)
        super().data_received(data)
        if len(self.pipeline) > MOST_PIPELINED:
            self._drop()
        elif self._overhead > MOST_OVERHEAD and self._request_due is not None:
            self._refuse()

    def on_message_begin(self) -> None:
        """The parser has found the start of a request."""
        super().on_message_begin()
        self._await_request()

    def on_body(self, body: bytes) -> None:
        """The parser has found a part of a body. `Request` bounds what it reads of it."""
        self._overhead -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The parser has found the end of a request."""
        self._stop_waiting()
        self._overhead = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The application has sent a whole response."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self._read_due is not None:
            self._read_due.cancel()
            self._read_due = None
        super().resume_writing()

    def _await_request(self) -> None:
        if self._request_due is None:
            self._request_due = self.loop.call_later(SECONDS, self._drop)

    def _stop_waiting(self) -> None:
        if self._request_due is not None:
            self._request_due.cancel()
            self._request_due = None

    def _await_reader(self) -> None:
        """Close the connection if the client has taken nothing by then."""
        size = self.transport.get_write_buffer_size()

        def check() -> None:
            if self.transport.get_write_buffer_size() < size:
                self._await_reader()
            else:
                self._drop()

        self._read_due = self.loop.call_later(SECONDS, check)

    def _refuse(self) -> None:
        """Refuse a request that is too long, with a response if no other is under way."""
        if self._idle:
            self.transport.write(_TOO_LONG)
            self.transport.close()
        else:
            self._drop()

    def _drop(self) -> None:
        """Close the connection at once; what the client has not taken yet is thrown away."""
        self.connections.discard(self)  # of which the loop tells only later: until then it would count
        self.transport.abort()
