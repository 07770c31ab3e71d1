"""`Transport`: a passed connection in the running loop, as asyncio's protocols expect it.

It gives the kernel each byte at once, and knows at once what the kernel has taken: custody needs both. And it
costs less than a loop's own transport, which can do more.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from typing import Any

from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.poller import Poller

_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_BROKEN = select.EPOLLERR | select.EPOLLHUP
_GONE = select.EPOLLRDHUP  # the client has ended its side, whatever is unread
_MOST_READ = 64 * 1024  # recv(2) allocates that much each time
_HIGH = 64 * 1024
_DONTWAIT = int(socket.MSG_DONTWAIT)
NOW = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
"""Flags of send(2)."""


class Transport(asyncio.Transport):
    """See `asyncio.Transport`, for protocols that have ``data_received``.

    Args:
        poller: Watches the connection.
        passed: The connection. Given.

    Attributes:
        passed: See above.
    """

    __slots__ = (
        "_backlog", "_closing", "_ended", "_ended_writing", "_ending", "_fresh", "_full", "_high", "_lingers",
        "_low", "_muted", "_number", "_poller", "_protocol", "_wanted", "_watched", "_wrote", "passed",
    )  # fmt: skip

    def __init__(self, poller: Poller, passed: PassedSocket) -> None:
        self.passed = passed
        self._poller = poller
        self._number = passed.fileno()
        self._protocol: Any = None
        self._wanted, self._watched = _IN, 0
        self._muted = 0  # _IN: nothing is read until the client has read, whatever the protocol wants
        self._fresh = True  # not watched before the loop's next turn, by which most short connections have ended
        self._closing = self._ending = False  # the connection ends when all bytes are sent; it ends now
        self._lingers = False  # its end waits until the client has read what was sent
        self._ended = self._ended_writing = False  # the client has ended its side; we have ended ours
        self._wrote = 0  # bytes that `write` was given, ever
        self._backlog = bytearray()  # the bytes that the kernel had no room for
        self._high, self._low = _HIGH, _HIGH // 4  # bytes of it; the protocol is told to pause, and to resume
        self._full = False  # the protocol was told to pause

    def start(self, protocol: Any) -> None:
        """Connect the transport with a protocol, and read the bytes that are there already."""
        self._protocol = protocol
        protocol.connection_made(self)
        try:
            self._first()
        except Exception as error:  # noqa: BLE001 - see `_ready`
            self._fail(error)
        self._poller.loop.call_soon(self._settle)

    def _first(self) -> None:
        self._read()

    def _settle(self) -> None:
        self._fresh = False
        if self._ending:
            return
        try:
            self._watch(self._wanted)
        except OSError as error:  # ENOSPC, ENOMEM: see epoll_ctl(2)
            self._end(error)
        else:
            self._settled()

    def _settled(self) -> None:
        """The connection stays for now."""

    def _watch(self, events: int) -> None:
        self._wanted = events
        events &= ~self._muted
        if events != self._watched and not self._fresh:
            if events:
                self._poller.watch(self._number, events, self._ready)
            else:
                self._poller.unwatch(self._number)
            self._watched = events

    def _ready(self, _: int, events: int) -> None:
        try:
            if events == _IN and self._wanted & _IN:
                self._read()
                return
            if events & (_OUT | _BROKEN) and (self._backlog or self._full):
                self._drain()
            if events & ~_OUT and self._wanted & _IN:
                self._read()
            elif events & self._wanted & _GONE:
                self._watch(self._wanted & ~_GONE | _BROKEN)
                self._client_ended()
            elif events & self._wanted & _BROKEN:
                self._end(None)  # the client, which had ended its side, has gone
            elif self._watched != self._wanted:
                self._watch(self._wanted)
        except Exception as error:  # noqa: BLE001 - the protocol's: reported as a loop does
            self._fail(error)

    # What comes

    def _read(self) -> None:
        try:
            data = self.passed.recv(_MOST_READ, _DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if data:
            self._protocol.data_received(data)
        else:
            self._eof()

    def _eof(self) -> None:
        self._ended = True
        self._watch(self._wanted & ~_GONE)
        if self._protocol.eof_received():
            self._watch(self._wanted & ~_IN | _BROKEN)
        else:
            self.close()

    def _client_ended(self) -> None:
        self._protocol.client_ended()

    def is_reading(self) -> bool:
        """See `asyncio.ReadTransport`."""
        return bool(self._wanted & _IN)

    def pause_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        self._wanted &= ~_IN  # `_ready` tells the poller, if bytes come meanwhile: most pauses are short

    def read_no_more(self) -> None:
        """Pause reading, but call ``client_ended`` of the protocol when the client has ended its side."""
        self._watch(self._wanted & ~_IN | _GONE)

    def resume_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        if not (self._closing or self._ended):
            wanted = self._wanted & ~_GONE | _IN
            if wanted == self._watched:
                self._wanted = wanted
            else:
                self._watch(wanted)

    # What goes

    def write(self, data: Any, flags: int = NOW) -> None:
        """See `asyncio.WriteTransport`; with flags of send(2)."""
        if self._closing or not data:
            return
        if type(data) is not bytes:
            data = bytes(data)
        self._wrote += len(data)
        if not self._backlog:
            try:
                sent = self.passed.send(data, flags)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._end(error)
                return
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
            self._watch(self._wanted | _OUT)
        self._backlog += data
        if self._full:
            # Whoever was told to pause still writes: pongs, say. A client gets no more of them before it has read.
            self._muted = _IN
            self._watch(self._wanted)
        elif len(self._backlog) > self._high:
            self._full = True
            self._protocol.pause_writing()

    def _drain(self) -> None:
        try:
            del self._backlog[: self.passed.send(self._backlog, NOW)]
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if self._full and len(self._backlog) <= self._low:
            self._full = False
            if self._muted:
                self._muted = 0
                self._watch(self._wanted)
            self._protocol.resume_writing()
        if not (self._backlog or self._ending):
            self._watch(self._wanted & ~_OUT)
            self._drained()

    def _drained(self) -> None:
        """The kernel has all that was written."""
        if self._closing:
            self._end(None)
        elif self._ended_writing:
            with contextlib.suppress(OSError):
                self.passed.shutdown(socket.SHUT_WR)

    @property
    def quiet(self) -> bool:
        """No byte waits to be sent, and no request waits to be served."""
        return not self._backlog

    def can_write_eof(self) -> bool:
        """See `asyncio.WriteTransport`."""
        return True

    def write_eof(self) -> None:
        """See `asyncio.WriteTransport`."""
        if not (self._closing or self._ended_writing):
            self._ended_writing = True
            if not self._backlog:
                self._drained()

    def get_write_buffer_size(self) -> int:
        """See `asyncio.WriteTransport`."""
        return len(self._backlog)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """See `asyncio.WriteTransport`."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See `asyncio.WriteTransport`."""
        self._high = high if high is not None else _HIGH if low is None else 4 * low
        self._low = low if low is not None else self._high // 4

    # The end

    def is_closing(self) -> bool:
        """See `asyncio.BaseTransport`."""
        return self._closing

    def close(self) -> None:
        """See `asyncio.BaseTransport`."""
        if not self._closing:
            self._closing = True
            self._watch(self._wanted & ~_IN)
            if not self._backlog:
                self._end(None)

    def abort(self) -> None:
        """See `asyncio.WriteTransport`."""
        self._end(None)

    def _fail(self, error: Exception) -> None:
        about = {"message": "a protocol failed", "exception": error, "transport": self, "protocol": self._protocol}
        self._poller.loop.call_exception_handler(about)
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        if self._stop():
            self._poller.loop.call_soon(self._over, error)

    def _stop(self) -> bool:
        """Read and write no more; False if that was so before, else `_over` has to follow."""
        if self._ending:
            return False
        self._ending = self._closing = True
        if self._backlog:
            self.passed.reset()  # else the client could take what has gone out for the whole
            self._backlog.clear()
        self._watch(0)
        return True

    def _over(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._protocol = None
            if self._lingers and error is None and not self.passed.shut:
                self._linger()
            else:
                self.passed.close()

    def _linger(self) -> None:
        """Close the connection when the client has read what was sent."""
        raise NotImplementedError

    # Its protocol

    def get_protocol(self) -> Any:
        """See `asyncio.BaseTransport`."""
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        """See `asyncio.BaseTransport`."""
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See `asyncio.BaseTransport`: ``socket``, ``peername``, ``sockname`` and ``sslcontext``."""
        try:
            if name == "peername":
                return self.passed.getpeername()
            if name == "sockname":
                return self.passed.getsockname()
        except OSError:
            return default
        if name == "socket":
            return self.passed
        if name == "sslcontext" and self.passed.tls_by_proxy:
            return True  # in the place of a context: who asks wants to know whether the client speaks TLS
        return default
