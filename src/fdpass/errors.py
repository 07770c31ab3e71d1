"""Every exception of fdpass, and whose fault it is.

All derive from `FdpassError` and, where Python has a matching one, from that built-in exception too, so
``except OSError`` and ``except EOFError`` go on working.

========================  ==========================  =====================================
whose doing               exceptions                  what to do
========================  ==========================  =====================================
yours, before any effect  NotADescriptor, Closed,     correct the call
                          InvalidMessage, NotSealed,
                          NotActivated, ConfigError
the peer's                PeerClosed, PeerRefused,    drop the peer, or tell its owner
                          ProtocolError, PolicyError,
                          MessageTooLarge
the machine's             FdsLost, Truncated,         make room, wait, or ask for rights
                          Busy, Timeout, CallFailed
the application's         StartFailed, RequestFailed  mend the application, or the request
========================  ==========================  =====================================
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from fdpass.fd import Fd

LossReason = Literal["table full", "control data cut", "refused by policy", "surplus", "sender gave up", "unknown"]


class FdpassError(Exception):
    """The base of every exception that fdpass raises on purpose."""


class NotADescriptor(FdpassError, TypeError):
    """What was to be sent is no descriptor: no int, no `Fd`, nothing with ``fileno()``. Nothing was sent."""


class InvalidMessage(FdpassError, ValueError):
    """The kernel would lose or mistake this message (too many descriptors, empty data). Nothing was sent."""


class Closed(FdpassError, ValueError):
    """*You* closed this, or took the descriptor out of it, before."""


class PeerClosed(FdpassError, EOFError, ConnectionError):
    """The *peer* closed its end, or died. What you wanted to give is still yours."""


class ProtocolError(FdpassError, ValueError):
    """The peer sent what no fdpass channel sends. The channel is closed."""


class PeerRefused(FdpassError, ConnectionError):
    """The receiver will not take this message (its bounds, its policy). You still own the descriptors."""


class PolicyError(FdpassError, PermissionError):
    """Descriptors arrived that the receiving policy does not admit: they are closed. The data is in ``data``."""

    def __init__(self, reason: str, data: bytes) -> None:
        super().__init__(reason)
        self.data = data


class MessageTooLarge(FdpassError, OSError):
    """A message is larger than the socket can carry (sending) or than ``max_message`` (receiving)."""


class Truncated(FdpassError, OSError):
    """The datagram was longer than ``bufsize``: its end is gone.

    ``data``, ``fds`` (you own them) and ``address`` have what came.
    """

    def __init__(self, reason: str, data: bytes, fds: Sequence[Fd], address: Any = None) -> None:
        super().__init__(reason)
        self.data = data
        self.fds = fds
        self.address = address


class FdsLost(FdpassError, OSError):
    """Descriptors that were sent to you did not arrive: the kernel closed them, or they were not expected.

    Attributes:
        reason: Why, as exactly as can be known: ``"table full"`` (RLIMIT_NOFILE: close something, or raise
            it), ``"control data cut"``, ``"refused by policy"`` (a security module, or BPF),
            ``"surplus"`` (more than you asked for; fdpass closed the rest), ``"sender gave up"`` (a message
            that was to come again, in acknowledged mode, will not) or ``"unknown"``.
        data: The message's bytes.
        fds: The descriptors that did arrive. You own them.
        lost: How many are missing; None when nothing tells.
        again: True if the message was refused and the next ``recv`` asks for it again, whole.
        address: The sender's, of a datagram from a bound socket; else None.
        truncated: True if the datagram was longer than ``bufsize``, too: its end is gone.
    """

    def __init__(
        self,
        reason: LossReason,
        data: bytes,
        fds: Sequence[Fd] = (),
        *,
        lost: int | None = None,
        again: bool = False,
        address: Any = None,
        truncated: bool = False,
    ) -> None:
        many = "an unknown number of" if lost is None else str(lost)
        tail = "; the message was refused: make room and receive again" if again else f"; {len(fds)} arrived"
        cut = "; the data was cut, too" if truncated else ""
        super().__init__(f"{many} descriptor(s) lost: {reason}{tail}{cut}")
        self.errno = 24 if reason == "table full" else None  # EMFILE
        self.reason: LossReason = reason
        self.data = data
        self.fds = fds
        self.lost = lost
        self.again = again
        self.address = address
        self.truncated = truncated


class Timeout(FdpassError, TimeoutError):
    """The time given with ``settimeout`` or ``timeout`` ran out. What you wanted to give is still yours."""


class Busy(FdpassError, BlockingIOError):
    """The socket or the kernel has no room now (EAGAIN, ENOBUFS, ETOOMANYREFS): wait, and try again."""


class NotSealed(FdpassError, ValueError):
    """This descriptor is no sealed memory: whoever else holds it could still change or shrink it."""


class NotActivated(FdpassError, ValueError):
    """``LISTEN_FDS`` is not what the socket-activation convention says."""


class ConfigError(FdpassError, ValueError):
    """A setting of the server is not what it can be. Nothing was started."""


class StartFailed(FdpassError, RuntimeError):
    """No worker became ready: the application cannot be found, or fails when it is imported or started."""


class RequestFailed(FdpassError, RuntimeError):
    """A running server could not do what it was asked; it goes on as before."""


class CallFailed(FdpassError, OSError):
    """A system call failed for another reason: ``errno`` and ``strerror`` say which."""


class NotPermitted(CallFailed, PermissionError):
    """The kernel, a security module or an ``allow`` rule does not permit it (EPERM, EACCES)."""


class NoSuchProcess(CallFailed, ProcessLookupError):
    """No process has this number, or it has ended (ESRCH)."""


class NotFound(CallFailed, FileNotFoundError):
    """Nothing has this name (ENOENT)."""


class NotListening(CallFailed, ConnectionRefusedError):
    """There is a socket file, but nobody listens behind it (ECONNREFUSED)."""


class BadDescriptor(CallFailed):
    """A number among the descriptors is not open (EBADF). Nothing was sent."""


class AddressInUse(CallFailed):
    """Somebody listens at this address already (EADDRINUSE)."""


_BY_ERRNO: dict[int, type[Any]] = {
    **dict.fromkeys((1, 13), NotPermitted),  # EPERM, EACCES
    2: NotFound,  # ENOENT
    3: NoSuchProcess,  # ESRCH
    9: BadDescriptor,  # EBADF
    **dict.fromkeys((11, 105, 109), Busy),  # EAGAIN, ENOBUFS, ETOOMANYREFS
    **dict.fromkeys((32, 104, 107), PeerClosed),  # EPIPE, ECONNRESET, ENOTCONN
    90: MessageTooLarge,  # EMSGSIZE
    98: AddressInUse,  # EADDRINUSE
    110: Timeout,  # ETIMEDOUT
    111: NotListening,  # ECONNREFUSED
}


def translated(error: OSError, doing: str = "") -> FdpassError:
    """The exception of fdpass for one of the system's; raise it ``from error``.

    Args:
        error: What the system call said.
        doing: What was attempted and on what, to stand before the system's own words.
    """
    if isinstance(error, TimeoutError) and error.errno is None:
        return Timeout("timed out")
    number = error.errno or 0
    words = error.strerror or str(error) or os.strerror(number)
    kind = _BY_ERRNO.get(number, CallFailed)
    made: FdpassError = kind(number, f"{doing}: {words}" if doing else words)
    return made
