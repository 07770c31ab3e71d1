"""One sendmsg, one recvmsg: descriptors as ancillary data. The only file that names SCM_RIGHTS.

The kernel makes each received descriptor close-on-exec, and a `Message` owns it before anything is checked. A
descriptor that is refused is closed. Truncation is an error, never silent. Facts: unix(7), cmsg(3), and
``net/core/scm.c`` of the kernel.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from typing import Any, NoReturn

from fdpass._errors import BadDescriptor, Closed, InvalidMessage, translated
from fdpass._lending import BytesLike, FdLike, as_sequence, close_given, not_open, numbers, owners
from fdpass._losses import FdsLost, LossReason, Truncated
from fdpass._message import Credentials, Message, close_all

MAX_FDS = 253
"""The most descriptors in one message: SCM_MAX_FD of ``include/net/scm.h``."""

_SOL_SOCKET, _SCM_RIGHTS, _SCM_CREDENTIALS = (
    int(number) for number in (socket.SOL_SOCKET, socket.SCM_RIGHTS, socket.SCM_CREDENTIALS)
)
_SCM_PIDFD = 4  # Linux 6.5; CPython 3.11 has no name for it
_UCRED = struct.Struct("iII")
_unpack_one = struct.Struct("i").unpack  # a quarter of the instructions of array.array("i", ...)

# The size of the control buffer. The kernel drops descriptors that do not fit, so there is always room for the
# most that it can send: credentials and a pidfd stand before the descriptors.
_CONTROL_SIZE = socket.CMSG_SPACE(4 * MAX_FDS) + socket.CMSG_SPACE(_UCRED.size) + socket.CMSG_SPACE(4)
# Plain ints: or-ing IntFlag members costs more than the system call.
_TRUNCATED = int(socket.MSG_CTRUNC | socket.MSG_TRUNC)
_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)


def send_fds(
    sock: socket.socket,
    data: BytesLike,
    fds: Iterable[FdLike],
    *,
    give: bool = False,
    flags: int = 0,
    address: str | bytes | None = None,
) -> int:
    """Send one message with descriptors over a Unix socket, to any peer that speaks SCM_RIGHTS.

    Args:
        sock: A Unix socket of any type, lent. Its timeout applies.
        data: Bytes-like. On a stream at least one byte: the kernel drops descriptors without data there.
        fds: Up to 253 ints, `Fd` or objects with ``fileno()``. Lent, unless ``give``.
        give: Close the descriptors once the kernel took the message; on failure they stay yours.
        flags: The flags of sendmsg(2), MSG_DONTWAIT for instance.
        address: The receiver's address, for a datagram socket that is not connected.

    Returns:
        How many bytes were sent. On a stream that can be fewer than ``data`` has: send the rest *without* the
        descriptors, which have gone with the first byte.

    Raises:
        NotADescriptor: An item of ``fds`` is no descriptor, or cannot be given. Nothing was sent.
        InvalidMessage: More than 253 descriptors, or no data on a stream; or two objects that you give own one
            descriptor. Nothing was sent.
        Closed: A descriptor, or the socket, is closed. Nothing was sent.
        Busy: No room now: EAGAIN, ENOBUFS, or too many descriptors in flight (ETOOMANYREFS).
        PeerClosed: The peer closed its end, or died.
        MessageTooLarge: More than the socket carries in one message (EMSGSIZE).
        Timeout: The socket's timeout ran out.
        BadDescriptor: One of the numbers is not open. Nothing was sent.
        CallFailed: sendmsg(2) failed for another reason.
    """
    content: Any = data
    items = as_sequence(fds)
    given = owners(items) if give else ()
    rights = numbers(items)
    if len(rights) > MAX_FDS:
        raise InvalidMessage(
            f"{len(rights)} descriptors, but one message carries at most {MAX_FDS}: use a Channel, which splits it"
        )
    size = len(content) if type(content) is bytes else memoryview(content).nbytes
    if rights and not size and sock.type == socket.SOCK_STREAM:
        raise InvalidMessage(
            "descriptors need at least one byte of data on a stream: the kernel drops descriptors without data"
        )
    ancillary = [(_SOL_SOCKET, _SCM_RIGHTS, rights)] if rights else []
    try:
        if address is None:
            sent = sock.sendmsg((content,), ancillary, flags)
        else:
            sent = sock.sendmsg((content,), ancillary, flags, address)
    except OSError as error:
        if error.errno == errno.EBADF and sock.fileno() >= 0:
            raise BadDescriptor(error.errno, f"cannot send: {not_open(rights)}") from error
        _raise_translated(sock, error, "cannot send")
    if given:
        close_given(given)
    return sent


def send_parts(sock: socket.socket, parts: tuple[Any, ...], rights: array.array[int], flags: int) -> int:
    """Send buffers as one message, for channels. The numbers are checked already. Raises OSError."""
    return sock.sendmsg(parts, [(_SOL_SOCKET, _SCM_RIGHTS, rights)] if rights else (), flags)


def recv_fds(sock: socket.socket, bufsize: int = 65536, *, max_fds: int = MAX_FDS, flags: int = 0) -> Message:
    """Receive one message with its descriptors, from any peer that speaks SCM_RIGHTS.

    Args:
        sock: A Unix socket of any type, lent. Its timeout applies.
        bufsize: The most bytes to receive, at least 1.
        max_fds: The most descriptors that you want, 0 to 253. fdpass always makes room for 253, closes those
            above ``max_fds``, and reports them as `FdsLost`.
        flags: The flags of recvmsg(2). Do not use MSG_PEEK: it duplicates the descriptors at each call.

    Returns:
        The message, which owns the descriptors. No data and no descriptors: the peer closed its end (or sent
        an empty datagram).

    Raises:
        FdsLost: Descriptors did not arrive, or were more than ``max_fds``. It has the rest of the message.
        Truncated: The datagram was longer than ``bufsize``. It has the rest of the message.
        InvalidMessage: ``max_fds`` is negative. Nothing was received.
        Busy: There is no message, and the socket does not block.
        Timeout: The socket's timeout ran out.
        PeerClosed: The peer reset the connection.
        Closed: The socket is closed.
        CallFailed: recvmsg(2) failed for another reason.
    """
    if max_fds < 0:
        raise InvalidMessage(f"max_fds must be 0 or more, not {max_fds}")
    try:
        message = receive(sock, bufsize, flags)
    except OSError as error:
        _raise_translated(sock, error, "cannot receive")
    if message.flags & _TRUNCATED or (max_fds < MAX_FDS and len(message) > max_fds):
        _raise_loss(message, max_fds)
    return message


def receive(sock: socket.socket, bufsize: int, flags: int) -> Message:
    """One recvmsg(2). The message is unchecked, and owns its descriptors. Raises OSError."""
    data, ancillary, msg_flags, address = sock.recvmsg(bufsize, _CONTROL_SIZE, flags | _CLOEXEC)
    if not ancillary:
        return Message(data, (), None, msg_flags, address or None)
    if len(ancillary) == 1:
        [(_, kind, content)] = ancillary
        if kind == _SCM_RIGHTS:
            if len(content) == 4:
                return Message(data, _unpack_one(content), None, msg_flags, address or None)
            if not len(content) & 3:
                return Message(data, array.array("i", content), None, msg_flags, address or None)
    raw = array.array("i")
    credentials = None
    for _, kind, content in ancillary:  # the level is SOL_SOCKET: Unix sockets have no other
        if kind == _SCM_RIGHTS:
            raw.frombytes(content[: len(content) & ~3])  # truncated control data may end within a number
        elif kind == _SCM_CREDENTIALS and len(content) == _UCRED.size:
            credentials = Credentials(*_UCRED.unpack(content))
        elif kind == _SCM_PIDFD and len(content) == 4:
            close_all(array.array("i", content))  # SO_PASSPIDFD: a descriptor that no caller can use
    return Message(data, raw, credentials, msg_flags, address or None)


def loss_reason(arrived: int) -> LossReason:
    """The reason for MSG_CTRUNC in a message of which ``arrived`` descriptors are open here.

    The control buffer was large enough. So either the descriptor table was full (then it still is), or a security
    module or BPF refused a descriptor.
    """
    if arrived >= MAX_FDS:
        return "control data cut"
    try:
        os.close(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 0))
    except OSError as error:
        return "table full" if error.errno in {errno.ENFILE, errno.EMFILE} else "unknown"  # EBADF: no descriptor 0
    return "refused by policy"


def _raise_loss(message: Message, max_fds: int) -> NoReturn:
    data, fds, address = message.data, message.fds, message.address
    truncated = bool(message.flags & socket.MSG_TRUNC)
    kept, surplus = fds[:max_fds], fds[max_fds:]
    close_all([fd.take() for fd in surplus])
    if surplus:
        raise FdsLost("surplus", data, kept, lost=len(surplus), address=address, truncated=truncated)
    if message.flags & socket.MSG_CTRUNC:
        raise FdsLost(loss_reason(len(fds)), data, kept, address=address, truncated=truncated)
    raise Truncated("the datagram is longer than bufsize, and its end is lost: raise bufsize", data, kept, address)


def _raise_translated(sock: socket.socket, error: OSError, doing: str) -> NoReturn:
    if sock.fileno() < 0:
        raise Closed(f"{doing}: this socket is closed") from error
    raise translated(error, doing) from error
