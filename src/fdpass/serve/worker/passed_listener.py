"""`PassedListener`: what a server that was not written for fdpass gets in the place of a listening socket."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from fdpass.serve.worker.passed_socket import Address, PassedSocket


class PassedListener(socket.socket):
    """What a worker has in the place of a listening socket: `accept` takes the next connection passed to it.

    For servers that were not written for fdpass: give it to them as the listening socket that they ask for. It
    can be polled, has a timeout, and blocks or not, like any other. Binding and listening do nothing, for the
    dispatcher did both. Servers that accept in C (uvloop, libuv) cannot use it: run them on asyncio's own loop.

    Args:
        family: Of the connections that will come.
        address: What ``getsockname()`` shall say: where the dispatcher listens.
    """

    def __init__(self, family: int, address: Address) -> None:
        # One byte in a socket pair for each connection that waits: this is what makes it pollable.
        ours, self._feed = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        super().__init__(ours.family, ours.type, ours.proto, fileno=ours.detach())
        self._feed.setblocking(False)
        self._of_family = socket.AddressFamily(family)
        self._address = address
        self._coming: deque[PassedSocket] = deque()
        self._lock = threading.Lock()
        self._owed = 0  # bytes for which the pair had no room
        self._accepting = 0  # threads within `accept`
        self._ended = False
        self.on_use: Callable[[], None] = lambda: None  # somebody polls it, or accepts
        self.on_told: Callable[[], None] = lambda: None  # `accept` has said that it is over

    @property
    def family(self) -> socket.AddressFamily:
        """That of the connections, so that servers read their addresses rightly."""
        return self._of_family

    @property
    def type(self) -> socket.SocketKind:
        """SOCK_STREAM."""
        return socket.SOCK_STREAM

    def fileno(self) -> int:
        """The number to poll."""
        self.on_use()
        return super().fileno()

    def getsockname(self) -> Address:
        """Where the dispatcher listens."""
        return self._address

    def bind(self, address: Address) -> None:
        """Do nothing: the dispatcher is bound already."""

    def listen(self, backlog: int = 0) -> None:
        """Do nothing: the dispatcher listens already."""

    def setsockopt(self, *arguments: Any) -> None:
        """Do nothing: options of listening sockets (SO_REUSEADDR, ...) are the dispatcher's business."""

    def accept(self) -> tuple[socket.socket, Address]:
        """The next connection, and its client's address.

        Raises:
            BlockingIOError: None waits, and this socket does not block.
            TimeoutError: The timeout ran out.
            OSError: EINVAL: the worker retires, and no connection will come any more. EBADF: it is closed.
        """
        self.on_use()
        self._wait()
        with self._lock:
            if not self._coming:
                self.on_told()
                if self._accepting:  # others may have come in while one waited that somebody else has got since
                    self._wake(1)
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            passed = self._coming.popleft()
            if self._owed:
                self._owed -= 1
                self._feed.send(b"c")
        passed.settimeout(socket.getdefaulttimeout())  # what accept(2) hands out blocks, unless told otherwise
        try:
            return passed, passed.getpeername()
        except OSError:  # ENOTCONN: the client went away before it was accepted; reading will tell
            return passed, ("", 0)

    def _wait(self) -> None:
        """Take a byte: one for each connection, and, at the end, one for each thread that is here."""
        with self._lock:
            over = self._ended and not self._coming
            self._accepting += 1
        try:
            if over:
                with contextlib.suppress(OSError):
                    self.recv(1, socket.MSG_DONTWAIT)
            else:
                self.recv(1)
        finally:
            with self._lock:
                self._accepting -= 1

    def feed(self, passed: PassedSocket) -> None:
        """Let `accept` have a connection. From any thread."""
        with self._lock:
            try:
                self._feed.send(b"c")
            except BlockingIOError:
                self._owed += 1
            except OSError:  # it is closed: its server has gone
                passed.close()
                return
            self._coming.append(passed)

    def end(self) -> None:
        """No connection will come any more: after those that wait, `accept` says EINVAL.

        Who polls is woken once, and not for ever: many servers go on polling whatever accept(2) says.
        """
        with self._lock:
            self._ended = True
            self._wake(max(1, self._accepting))

    def _wake(self, count: int) -> None:
        with contextlib.suppress(OSError):  # full: then there are bytes enough
            self._feed.send(b"e" * count)

    def close(self) -> None:
        """Close it, and the connections that nobody accepted."""
        super().close()
        self._feed.close()
        while self._coming:
            self._coming.popleft().close()
