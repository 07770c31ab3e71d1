"""The exceptions that carry no descriptors, and the translation of OSError into them. The others: `_losses`."""

from __future__ import annotations

import errno
import os
from typing import Any


class FdpassError(Exception):
    """The base of every exception that fdpass raises on purpose."""


class NotADescriptor(FdpassError, TypeError):
    """An argument is no descriptor: no int, no `Fd`, no object with ``fileno()``. Nothing was sent."""


class InvalidMessage(FdpassError, ValueError):
    """An argument is out of bounds (too many descriptors, no data, an impossible address). Nothing was sent."""


class Closed(FdpassError, ValueError):
    """*You* closed this object, or took the descriptor out of it, before the call."""


class PeerClosed(FdpassError, ConnectionError, EOFError):  # in this order: OSError's constructor keeps errno
    """The *peer* closed its end, or died. You still own the descriptors that you wanted to give."""


class ProtocolError(FdpassError, ValueError):
    """The peer sent bytes that no fdpass channel sends. The channel has ended."""


class PeerRefused(FdpassError, ConnectionError):
    """The receiver's bounds or policy do not admit this message. You still own the descriptors."""


class PolicyError(FdpassError, PermissionError):
    """Descriptors arrived that your policy does not admit; fdpass closed them.

    Attributes:
        data: The message's bytes.
    """

    def __init__(self, reason: str, data: bytes) -> None:
        super().__init__(reason)
        self.data = data

    def __reduce__(self) -> Any:  # OSError would be made anew of its text alone
        return type(self), (*self.args, self.data), self.__dict__


class MessageTooLarge(FdpassError, OSError):
    """A message is larger than the socket can carry (sending), or than your bounds admit (receiving)."""


class Timeout(FdpassError, TimeoutError):
    """The time given with ``settimeout`` or ``timeout`` ran out. You still own what you wanted to give."""


class Busy(FdpassError, BlockingIOError):
    """The socket has nothing to receive, or no room to send (EAGAIN, ENOBUFS, ETOOMANYREFS): try again later."""


class NotSealed(FdpassError, ValueError):
    """This descriptor is no sealed memory: another process that holds it could change or shrink it."""


class NotActivated(FdpassError, ValueError):
    """``LISTEN_FDS`` and the variables that belong to it are not what sd_listen_fds(3) says."""


class ConfigError(FdpassError, ValueError):
    """A setting of the server has a value that it cannot have. Nothing was started."""


class StartFailed(FdpassError, RuntimeError):
    """No worker became ready: the application cannot be found, or fails when it is imported or started."""


class RequestFailed(FdpassError, RuntimeError):
    """A running server could not do what a command asked for; the server goes on as before."""


class CallFailed(FdpassError, OSError):
    """A system call failed for another reason: ``errno`` and ``strerror`` say which."""


class NotPermitted(CallFailed, PermissionError):
    """The kernel, a security module or an ``allow`` rule does not permit it (EPERM, EACCES)."""


class NoSuchProcess(CallFailed, ProcessLookupError):
    """No process has this number, or the process has ended (ESRCH)."""


class NotFound(CallFailed, FileNotFoundError):
    """No file has this name (ENOENT)."""


class NotListening(CallFailed, ConnectionRefusedError):
    """The address exists, but no program listens there (ECONNREFUSED)."""


class BadDescriptor(CallFailed):
    """A number among the descriptors is not open (EBADF). Nothing was sent."""


class AddressInUse(CallFailed):
    """A program listens at this address already, or the path is no socket (EADDRINUSE)."""


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
    """The exception of fdpass for an OSError; raise it ``from error``.

    Args:
        error: The error of a system call.
        doing: What was attempted, and on which thing ("cannot open x"): the start of the message.
    """
    if isinstance(error, TimeoutError) and error.errno is None:
        return Timeout("timed out")
    number = error.errno or 0
    words = error.strerror or str(error) or os.strerror(number)
    kind = _BY_ERRNO.get(number, CallFailed)
    made: FdpassError = kind(number, f"{doing}: {words}" if doing else words)
    return made
