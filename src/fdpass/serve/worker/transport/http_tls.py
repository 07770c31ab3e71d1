"""`TlsTransport`: the transport of `HttpProtocol` for TLS: the loop's transport, and what HTTP needs besides."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from fdpass.serve.worker.http.wire import EXTENSIONS
from fdpass.serve.worker.passed_socket import PassedSocket, unsent
from fdpass.serve.worker.transport.lingering import BYTES, SECONDS

_PART = 64 * 1024  # bytes of a file that are read at a time
_ANSWER_SECONDS = 1.0  # for a client's answer to a close_notify: one that does not read gives none


class TlsTransport:
    """See `fdpass.serve.worker.http.wire.Wire`.

    Args:
        inner: The loop's transport.
        passed: The connection. Lent.

    Attributes:
        passed: See above.
    """

    extensions = EXTENSIONS

    def __init__(self, inner: Any, passed: PassedSocket) -> None:
        self._inner = inner
        self._lingers = self._closing = False
        self._full = False  # the protocol was told to pause
        self._muted = False  # nothing is read until the client has read
        self._reads = True  # the protocol wants to read
        self.passed = passed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def quiet(self) -> bool:
        """See `Wire`. Bytes wait in the loop's transport only while the kernel has some, too: tcp(7)."""
        return not (unsent(self.passed.fileno()) or self._inner.get_write_buffer_size())

    def is_closing(self) -> bool:
        """See `asyncio.BaseTransport`: a connection that lingers closes, too."""
        return self._closing or bool(self._inner.is_closing())

    def write(self, data: bytes) -> None:
        """See `asyncio.WriteTransport`. Nothing follows what was sent before the close."""
        if not self._closing:
            if self._full and not self._muted:  # see `Transport.write`
                self._muted = True
                self._inner.pause_reading()
            self._inner.write(data)

    def set_protocol(self, protocol: Any) -> None:
        """See `asyncio.BaseTransport`: the protocol of a WebSocket."""
        self._inner.set_protocol(_Told(self, protocol))

    def pause_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        self._reads = False
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        self._reads = True
        if not self._muted:
            self._inner.resume_reading()

    def told(self, *, full: bool) -> None:
        """The protocol is told to pause writing, or to resume it."""
        self._full = full
        if self._muted and not full:
            self._muted = False
            if self._reads and not self.is_closing():
                self._inner.resume_reading()

    def close(self) -> None:
        """See `asyncio.BaseTransport`. A second close of asyncio's transport would break it."""
        if self.is_closing():
            return
        self._closing = True
        if self._lingers:
            _Lingering(self._inner, self._end)
        else:
            self._end()

    def _end(self) -> None:
        """Send what is left, and a close_notify. The client need not answer it: RFC 8446, 6.1."""
        self._inner.close()
        asyncio.get_running_loop().call_later(_ANSWER_SECONDS, self._wait_no_more)

    def _wait_no_more(self) -> None:
        if self.passed.fileno() < 0:  # the connection has ended
            return
        if self.quiet:
            self._inner.abort()
        else:
            asyncio.get_running_loop().call_later(_ANSWER_SECONDS, self._wait_no_more)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See `asyncio.BaseTransport`."""
        if name == "peername" and self.passed.client is not None:
            return self.passed.client
        return self._inner.get_extra_info(name, default)

    def read_no_more(self) -> None:
        """See `Wire`. The loop's transport does not tell of an end behind what is unread."""
        self.pause_reading()

    def called(self, scope: dict[str, Any]) -> None:
        """See `Wire`."""

    def announce(self, count: int, *, last: bool) -> None:
        """See `Wire`."""

    def respond(self, data: bytes, last: bool) -> None:
        """See `Wire`."""
        self.write(data)
        if last:
            self.close()

    def linger(self) -> None:
        """See `Wire`."""
        self._lingers = True

    def send_file(self, number: int, offset: int, count: int) -> int:
        """See `Wire`."""
        data = os.pread(number, min(count, _PART), offset)
        if not data:
            raise EOFError("the file became shorter while it was sent")
        self.write(data)
        return len(data)

    def cut(self, *, reset: bool) -> None:
        """See `Wire`. Without a close_notify, the client knows that the end is not meant: RFC 8446, 6.1."""
        if reset:
            self._inner.abort()
        else:
            self.close()

    @property
    def is_resumable(self) -> bool:
        """See `Wire`."""
        return False

    def hand_over(self, websockets: Any, protocol: Any, handshake: bytes) -> bool:  # noqa: ARG002 - not in custody
        """See `Wire`."""
        return False

    def leave(self) -> bool:
        """See `Wire`."""
        return False

    def move(self) -> bool:
        """See `Wire`."""
        return False


class _Told:
    """Has a connection in the place of a WebSocket's protocol, and lets the transport know what that is told."""

    def __init__(self, transport: TlsTransport, protocol: Any) -> None:
        self._transport = transport
        self._protocol = protocol
        self.data_received = protocol.data_received
        self.eof_received = protocol.eof_received
        self.connection_lost = protocol.connection_lost

    def pause_writing(self) -> None:
        self._transport.told(full=True)
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._transport.told(full=False)
        self._protocol.resume_writing()


class _Lingering(asyncio.Protocol):
    """Has a connection in the place of its protocol, and discards what comes until the client ends its side.

    See `fdpass.serve.worker.transport.lingering`. asyncio's TLS cannot end one side: a close while data comes is a
    reset.
    """

    def __init__(self, inner: Any, end: Callable[[], None]) -> None:
        self._inner = inner
        self._then = end
        self._protocol = inner.get_protocol()
        self._left = BYTES
        self._timer = asyncio.get_running_loop().call_later(SECONDS, self._end)
        inner.set_protocol(self)
        inner.resume_reading()

    def _end(self) -> None:
        if not self._inner.is_closing():  # see `TlsTransport.close`
            self._then()

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left <= 0:
            self._inner.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._protocol.connection_lost(exc)
