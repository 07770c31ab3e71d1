"""The exceptions that carry no descriptors, and how the system's become ours. The others are in `_losses`."""

from __future__ import annotations

import errno
import os
from typing import Any


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
    **dict.fromkeys((errno.EPERM, errno.EACCES), NotPermitted),
    errno.ENOENT: NotFound,
    errno.ESRCH: NoSuchProcess,
    errno.EBADF: BadDescriptor,
    **dict.fromkeys((errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS), Busy),
    **dict.fromkeys((errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN), PeerClosed),
    errno.EMSGSIZE: MessageTooLarge,
    errno.EADDRINUSE: AddressInUse,
    errno.ETIMEDOUT: Timeout,
    errno.ECONNREFUSED: NotListening,
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
