"""What HTTP needs of others: `Wire` of the transport, `HttpEngine` of the engine; and exchanges of a `Connection`.

There are three transports: for a connection in custody, for one that is not, and for TLS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from mmap import mmap
from typing import Any, Protocol

from fdpass.serve.worker.http.request import KnownHeaders
from fdpass.serve.worker.idle_timer import IdleTimer
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.request_count import RequestCount

Address = tuple[str, int | None]
"""As in the scopes of ASGI."""

EXTENSIONS: dict[str, Any] = {
    "http.response.early_hint": {},
    "http.response.pathsend": {},
    "http.response.trailers": {},
}
"""What each transport can do, as in the scopes of ASGI."""


class Wire(Protocol):
    """A transport, besides what asyncio's protocols need of one.

    Attributes:
        passed: The connection.
        extensions: Of each scope, which gets a copy. All requests of a connection have the same dicts in it.
    """

    passed: PassedSocket
    extensions: dict[str, Any]

    def called(self, scope: dict[str, Any]) -> None:
        """The application is called next, with this scope."""

    def write(self, data: bytes) -> None:
        """Send a part of a response that is not its last."""

    def announce(self, count: int, *, last: bool) -> None:
        """The next ``count`` bytes end a response; if ``last``, the connection ends with it."""

    def send_file(self, number: int, offset: int, count: int) -> int:
        """Send up to so many bytes of an open file.

        Returns:
            How many were sent; 0 if the client has to read first, and the protocol was told to pause.

        Raises:
            EOFError: The file ends at ``offset``.
        """

    def respond(self, data: bytes, last: bool) -> None:
        """Send the end of a response; if ``last``, the connection ends with it."""

    def linger(self) -> None:
        """The client still sends: let it read what was sent before the connection is closed (RFC 9112, 9.6)."""

    def cut(self, *, reset: bool) -> None:
        """A response has failed after its start: end the connection.

        Args:
            reset: The client would take an ordinary end of the connection for the end of the response.
        """

    @property
    def quiet(self) -> bool:
        """Whether no byte waits to be sent, and no request waits to be served."""

    @property
    def is_resumable(self) -> bool:
        """Whether another worker can continue the present WebSocket or event stream, now or in a moment."""

    def hand_over(self, websockets: Any, protocol: Any, handshake: bytes) -> bool:
        """Let a WebSocket have the connection, and its protocol the handshake; False: the protocol takes the wire.

        Args:
            websockets: See `HttpEngine`.
            protocol: Of the WebSocket.
            handshake: The request that asks for it.
        """

    def leave(self) -> bool:
        """Give the connection back to the dispatcher once it is idle; False: no other worker can have it."""

    def move(self) -> bool:
        """Give the connection back in the middle of its response; False: no other worker could continue it."""

    def pause_reading(self) -> None:
        """See `asyncio.ReadTransport`."""

    def read_no_more(self) -> None:
        """Pause reading, but call ``client_ended`` of the protocol when the client has ended its side."""

    def resume_reading(self) -> None:
        """See `asyncio.ReadTransport`."""

    def close(self) -> None:
        """See `asyncio.BaseTransport`."""

    def abort(self) -> None:
        """See `asyncio.WriteTransport`."""

    def is_closing(self) -> bool:
        """See `asyncio.BaseTransport`."""
        raise NotImplementedError

    def get_extra_info(self, name: str) -> Any:
        """See `asyncio.BaseTransport`."""

    def get_protocol(self) -> Any:
        """See `asyncio.BaseTransport`."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """See `asyncio.BaseTransport`."""


class HttpEngine(Protocol):
    """The engine, for the protocols of its connections.

    Attributes:
        count: Counts the requests of this worker.
        known: The headers of requests that this worker has seen.
        date: The server's own headers, as they are sent: those of ``--header``, and Date; renewed each second.
        dateless: The same without Date, for a response whose application has set a Date.
        forwarding: Reads what trusted proxies say about the client; None: no peer is trusted.
        root_path: See `fdpass.serve.shared.http_settings.HttpSettings`.
        state: What the application's lifespan has left for its requests; each gets a copy.
        connections: All HTTP connections.
        exchanges: All exchanges whose application has not returned yet.
        idle: Connections that wait for their next request.
        head_timer: Connections of which the head of a request has not come whole; None: there is no limit of time.
        head_max: Bytes that the head of a request may have.
        body_max: Bytes that the body of a request may have; 0: there is no limit.
        websockets: The WebSockets in custody; None without custody.
        finishing: The worker stops or retires.
        awaits_first: The worker began to do so a moment ago: clients that have just connected may send a request.
        resume: The prefixes of the paths whose streams another worker can continue: see `live.paths`.
        pages: The pages of open streams; None without custody.
    """

    count: RequestCount
    known: KnownHeaders
    date: bytes
    dateless: bytes
    forwarding: Any
    root_path: str
    state: dict[str, Any]
    connections: set[Any]
    exchanges: set[Any]
    idle: IdleTimer
    head_timer: IdleTimer | None
    head_max: int
    body_max: int
    websockets: Any
    finishing: bool
    awaits_first: bool
    resume: tuple[str, ...]
    pages: mmap | None

    @property
    def websocket(self) -> Callable[[PassedSocket], Any] | None:
        """Makes the protocol of a WebSocket on a connection; None if no package for WebSockets is installed.

        For the first WebSocket of a worker this imports uvicorn.
        """

    def server_of(self, passed: PassedSocket) -> Address | None:
        """The server's address to which the client of a connection connected; None if the client has gone."""

    def flush_soon(self, exchange: Any) -> None:
        """Call `Exchange.flush` within some milliseconds."""

    def start_exchange(self, exchange: Any) -> None:
        """Run an exchange in a task of its own, which may begin at once, and be done when this returns."""

    def start_exchange_soon(self, exchange: Any) -> None:
        """Run an exchange in a task of its own, which begins when this has returned."""


class Connection(Protocol):
    """What an exchange needs of the protocol of its connection.

    Attributes:
        wire: The transport.
        engine: The engine.
        full: The client is slow: nothing is sent until this is set. None: the client is not.
    """

    wire: Wire
    engine: HttpEngine
    full: asyncio.Event | None

    def resume_reading(self) -> None:
        """The application waits for more of the request's body, or for the client's end."""

    def begin(self, exchange: Any, data: bytes) -> None:
        """Send the start of a response: its head, and perhaps a part of its body."""

    def responded(self, exchange: Any) -> None:
        """The response is complete."""

    def failed(self, exchange: Any) -> None:
        """The application failed after its whole response."""

    def over(self, exchange: Any) -> None:
        """The application has returned."""
