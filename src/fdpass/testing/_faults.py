"""Injected faults: system calls that fail or do only a part, peers that die, and a full descriptor table.

A `FaultySocket` has a *script*, which says what happens at which call. All other calls go to the kernel::

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
    """A system call that is about to be made."""

    sock: FaultySocket
    name: str
    real: Callable[..., Any]
    args: tuple[Any, ...]

    def make(self) -> Any:
        """Make the call, and return its result."""
        return self.real(*self.args)


Fault = Callable[[Call], Any]
"""A function that runs in place of a call; the caller gets what it returns or raises."""

EVERY = 0
"""In a script, in place of a number: each call for which the script has no entry with a number."""


def fails(number: int) -> Fault:
    """A fault: the call fails with this errno, and has no effect.

    CPython itself repeats a call that a signal interrupted. So code sees an `InterruptedError`, which
    ``fails(errno.EINTR)`` raises, only if a signal handler raises it.
    """

    def fault(_: Call) -> Any:
        raise OSError(number, os.strerror(number))

    return fault


def short(size: int) -> Fault:
    """A fault: the call sends or receives at most ``size`` bytes, 1 or more.

    A short write sends all the descriptors, as the kernel does: they travel with the first byte. On sockets other
    than streams, where the kernel makes no short calls, the call raises ValueError.
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
    """A fault: ``act`` is called first (it kills the peer, for instance), then the call goes to the kernel."""

    def fault(call: Call) -> Any:
        act()
        return call.make()

    return fault


def after(act: Callable[[], object]) -> Fault:
    """A fault: the call goes to the kernel; then ``act`` is called, even if the call failed."""

    def fault(call: Call) -> Any:
        try:
            return call.make()
        finally:
            act()

    return fault


class FaultySocket(socket.socket):
    """A socket whose ``sendmsg`` and ``recvmsg`` fail as a script says.

    Attributes:
        script: What happens at which call. Keys are ``("sendmsg", n)`` or ``("recvmsg", n)``, with n from 1 or
            `EVERY`; values are `fails`, `short`, `before`, `after`, or a function of your own (`Fault`). It may be
            changed at any time.
        calls: How often each call was made.
    """

    script: Mapping[tuple[str, int], Fault]
    calls: Counter[str]

    @classmethod
    def wrap(cls, sock: socket.socket, script: Mapping[tuple[str, int], Fault]) -> Self:
        """Move the descriptor of a socket, and its timeout, into a new `FaultySocket`, which owns it.

        Args:
            sock: The socket; it is empty afterwards.
            script: The script.
        """
        timeout = sock.gettimeout()
        made = cls(sock.family, sock.type, sock.proto, fileno=sock.detach())
        made.settimeout(timeout)
        made.script, made.calls = script, Counter()
        return made

    def sendmsg(self, buffers: Iterable[Any], ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
        """Call `socket.socket.sendmsg`, unless the script says otherwise."""
        args = (list(buffers), ancdata, flags, address)
        sent: int = self._scripted("sendmsg", super().sendmsg, args)
        return sent

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> Any:
        """Call `socket.socket.recvmsg`, unless the script says otherwise."""
        return self._scripted("recvmsg", super().recvmsg, (bufsize, ancbufsize, flags))

    def _scripted(self, name: str, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        self.calls[name] += 1
        fault = self.script.get((name, self.calls[name])) or self.script.get((name, EVERY))
        return fault(Call(self, name, call, args)) if fault else call(*args)


@contextmanager
def call_fails(module: Any, name: str, number: int, *, at: int = 1) -> Iterator[Counter[str]]:
    """Within the ``with`` block, one call of a function fails with an OSError.

    Args:
        module: The module that has the function (``os``, for instance). The function is replaced for all threads.
        name: The name of the function.
        number: The errno.
        at: Which call fails, counted from 1; all others call the real function.

    Yields:
        A Counter, which has under ``name`` how often the function was called.
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
    """Within the ``with`` block, this process can open only ``free`` more descriptors.

    RLIMIT_NOFILE is lowered so that only ``free`` unused numbers are below it: the kernel gives out no number from
    the limit on, and does not touch what is open. Import all modules before: an import needs a descriptor.

    Args:
        free: How many more descriptors can be opened, 0 or more.

    Yields:
        A function that restores the limit before the end of the block, to make room.
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
