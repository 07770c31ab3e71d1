"""`PassedListener`: the listening socket of a server that was not written for fdpass."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from fdpass.serve.worker.forks import FORKS
from fdpass.serve.worker.passed_socket import Address, PassedSocket


class PassedListener(socket.socket):
    """Stands for a listening socket in a worker: `accept` takes the next connection that the dispatcher passed.

    For servers that were not written for fdpass, and that ask for a listening socket. It can be polled, has a
    timeout, and blocks or not, like any other. Binding and listening do nothing, for the dispatcher has done both.
    Servers that accept in C (uvloop, libuv) cannot use it: run them on asyncio's own loop.

    Args:
        family: Of the connections that will come.
        address: Where the dispatcher listens, for ``getsockname()``.
    """

    def __init__(self, family: int, address: Address) -> None:
        # A socket pair makes it pollable: the pair holds one byte for each waiting connection.
        ours, self._byte_sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        super().__init__(ours.family, ours.type, ours.proto, fileno=ours.detach())
        self._byte_sender.setblocking(False)
        FORKS.numbers.update((super().fileno(), self._byte_sender.fileno()))
        self._client_family = socket.AddressFamily(family)
        self._address = address
        self._waiting: deque[PassedSocket] = deque()
        self._lock = threading.Lock()
        self._unsent = 0  # bytes that the pair had no room for: one for each of so many waiting connections
        self._accepting = 0  # threads within `accept`
        self._ended = False
        self.on_use: Callable[[], None] = lambda: None  # called when the server polls or accepts
        self.on_end_reported: Callable[[], None] = lambda: None  # called when `accept` raises EINVAL

    @property
    def family(self) -> socket.AddressFamily:
        """The connections' family, so that servers interpret addresses rightly."""
        return self._client_family

    @property
    def type(self) -> socket.SocketKind:
        """SOCK_STREAM."""
        return socket.SOCK_STREAM

    def fileno(self) -> int:
        """The descriptor to poll."""
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
        """Do nothing: the dispatcher sets the options of listening sockets (SO_REUSEADDR, ...)."""

    def accept(self) -> tuple[socket.socket, Address]:
        """The next connection, and its client's address.

        Raises:
            BlockingIOError: No connection waits, and this socket does not block.
            TimeoutError: The timeout has passed.
            OSError: EINVAL: the worker finishes, and no connection will come any more. EBADF: this socket is
                closed.
        """
        self.on_use()
        self._take_byte()
        with self._lock:
            if not self._waiting:
                self.on_end_reported()
                if self._accepting:  # threads that entered for a connection which another thread has taken since
                    self._wake(1)
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            passed = self._waiting.popleft()
            if self._unsent:
                self._unsent -= 1
                self._byte_sender.send(b"c")
        if threading.current_thread() is not threading.main_thread():  # whose loop serves many connections
            FORKS.serve(passed)
        passed.settimeout(socket.getdefaulttimeout())  # as of sockets from accept(2), whatever the listener's is
        try:
            return passed, passed.getpeername()
        except OSError:  # ENOTCONN: the client went away before; the server sees the end when it reads
            return passed, ("", 0)

    def _take_byte(self) -> None:
        """Read a byte of the pair: it has one for each connection and, at the end, for each thread in `accept`."""
        with self._lock:
            over = self._ended and not self._waiting
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
        """Let `accept` return a connection. From any thread."""
        with self._lock:
            try:
                self._byte_sender.send(b"c")
            except BlockingIOError:
                self._unsent += 1
            except OSError:  # this listener is closed: its server has gone
                passed.close()
                return
            self._waiting.append(passed)

    def end(self) -> None:
        """No connection will come any more: after the waiting ones `accept` raises EINVAL.

        A server that polls is woken once, and not again: many servers go on polling whatever accept(2) says.
        """
        with self._lock:
            self._ended = True
            self._wake(max(1, self._accepting))

    def _wake(self, count: int) -> None:
        with contextlib.suppress(OSError):  # the pair is full: it has bytes enough
            self._byte_sender.send(b"e" * count)

    def close(self) -> None:
        """Close this socket, and the connections that nobody accepted."""
        FORKS.numbers.difference_update((super().fileno(), self._byte_sender.fileno()))
        super().close()
        self._byte_sender.close()
        while self._waiting:
            self._waiting.popleft().close()
