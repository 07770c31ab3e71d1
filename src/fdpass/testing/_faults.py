"""Faults on demand: system calls that fail, cut or stall, peers that die, and a full descriptor table.

A `FaultySocket` runs a *script*: what is to happen at which call. Everything else reaches the kernel, so the
rest of the conversation stays real::

    sock = FaultySocket.wrap(sock, {("sendmsg", 2): fails(errno.EAGAIN), ("sendmsg", 3): short(5)})
    Channel(sock).send(...)
"""

from __future__ import annotations

import fcntl
import os
import resource
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Self


class Call(NamedTuple):
    """A system call about to be made."""

    sock: FaultySocket
    name: str
    real: Callable[..., Any]
    args: tuple[Any, ...]

    def make(self) -> Any:
        """Let it happen."""
        return self.real(*self.args)


Fault = Callable[[Call], Any]
"""What happens instead of a call: what it returns is what the caller gets."""

EVERY = 0
"""In a script, in place of a number: at each call that has no number of its own."""


def fails(number: int) -> Fault:
    """The call fails with this errno and has no effect.

    CPython repeats a call that is interrupted by a signal, so ``fails(errno.EINTR)`` shows what it shows only
    where a signal handler raises: an `InterruptedError`.
    """

    def fault(_: Call) -> Any:
        raise OSError(number, os.strerror(number))

    return fault


def short(size: int) -> Fault:
    """The call moves at most ``size`` bytes, at least 1. Streams only: elsewhere the kernel never does it.

    A short write carries all the descriptors, as the kernel's does: they travel with the first part.
    """

    def fault(call: Call) -> Any:
        if call.sock.type != socket.SOCK_STREAM:
            raise ValueError("only a stream has short reads and writes")
        first, *others = call.args
        if call.name == "recvmsg":
            return call.real(min(size, first), *others)
        return call.real([b"".join(first)[:size]], *others)

    return fault


def before(act: Callable[[], object]) -> Fault:
    """``act`` comes first (the peer dies, say), then the call goes to the kernel."""

    def fault(call: Call) -> Any:
        act()
        return call.make()

    return fault


def after(act: Callable[[], object]) -> Fault:
    """The call goes to the kernel, and whatever came of it, ``act`` follows, before the caller sees the result."""

    def fault(call: Call) -> Any:
        try:
            return call.make()
        finally:
            act()

    return fault


class FaultySocket(socket.socket):
    """A socket whose ``sendmsg`` and ``recvmsg`` go wrong as a script says.

    Attributes:
        script: What happens at which call: keys are ``("sendmsg", n)`` or ``("recvmsg", n)`` with n from 1,
            or `EVERY`; values are `fails`, `short`, `before`, `after`, or a function of your own (`Fault`).
            May be changed while it runs.
        calls: How often each call was made.
    """

    script: Mapping[tuple[str, int], Fault]
    calls: Counter[str]

    @classmethod
    def wrap(cls, sock: socket.socket, script: Mapping[tuple[str, int], Fault]) -> Self:
        """Take over a socket: the given one is empty afterwards, its timeout is kept."""
        timeout = sock.gettimeout()
        made = cls(sock.family, sock.type, sock.proto, fileno=sock.detach())
        made.settimeout(timeout)
        made.script, made.calls = script, Counter()
        return made

    def sendmsg(self, buffers: Iterable[Any], ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
        """As of `socket.socket`, unless the script says otherwise."""
        args = (list(buffers), ancdata, flags, address)
        sent: int = self._scripted("sendmsg", super().sendmsg, args)
        return sent

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> Any:
        """As of `socket.socket`, unless the script says otherwise."""
        return self._scripted("recvmsg", super().recvmsg, (bufsize, ancbufsize, flags))

    def _scripted(self, name: str, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        self.calls[name] += 1
        fault = self.script.get((name, self.calls[name])) or self.script.get((name, EVERY))
        return fault(Call(self, name, call, args)) if fault else call(*args)


@contextmanager
def call_fails(module: Any, name: str, number: int, *, at: int = 1) -> Iterator[Counter[str]]:
    """While it lasts, the ``at``-th call of ``module.name`` (``os.memfd_create``, say) fails with this errno.

    Args:
        module: Where callers look the function up; it is patched there, for all threads.
        name: The function.
        number: The errno.
        at: Which call, from 1; all others reach the real function.

    Yields:
        How often it was called, under its name.
    """
    real, calls = getattr(module, name), Counter[str]()

    def patched(*args: Any, **options: Any) -> Any:
        calls[name] += 1
        if calls[name] == at:
            raise OSError(number, os.strerror(number))
        return real(*args, **options)

    setattr(module, name, patched)
    try:
        yield calls
    finally:
        setattr(module, name, real)


@contextmanager
def full_table(free: int = 0) -> Iterator[Callable[[], None]]:
    """While it lasts, this process can open only ``free`` more descriptors; then the limit is as before.

    RLIMIT_NOFILE is lowered to the lowest number that is not in use: the kernel refuses every number from the
    limit on and leaves alone what is open. Not even a module can be imported under it: import first.

    Yields:
        A function that ends it early, to make room.
    """
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    slots = [fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 0) for _ in range(free + 1)]
    for fd in slots:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(slots), limits[1]))

    def make_room() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    try:
        yield make_room
    finally:
        make_room()
