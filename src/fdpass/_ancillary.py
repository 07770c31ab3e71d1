"""One sendmsg, one recvmsg: descriptors as ancillary data. The only file that names SCM_RIGHTS.

What holds here: a received descriptor is close-on-exec from its first instant and owned by the `Message`
before anything about it is checked; whatever is refused is closed; what was cut is an error, never silence.
Facts: unix(7), cmsg(3), and ``net/core/scm.c`` of the kernel.
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

from fdpass._errors import Closed, InvalidMessage, translated
from fdpass._lending import check_givable, close_given, listed, numbers
from fdpass._losses import FdsLost, LossReason, Truncated
from fdpass._message import Credentials, Message, close_all

MAX_FDS = 253
"""The most descriptors in one message: SCM_MAX_FD of ``include/net/scm.h``."""

_SOL_SOCKET, _SCM_RIGHTS, _SCM_CREDENTIALS = (
    int(number) for number in (socket.SOL_SOCKET, socket.SCM_RIGHTS, socket.SCM_CREDENTIALS)
)
_SCM_PIDFD = 4  # Linux 6.5; CPython 3.11 has no name for it
_UCRED = struct.Struct("iII")

# Always room for everything that the kernel may put there, credentials and a pidfd (in front of the
# descriptors) included: a buffer cut to size is how descriptors get lost.
_ROOM = socket.CMSG_SPACE(4 * MAX_FDS) + socket.CMSG_SPACE(_UCRED.size) + socket.CMSG_SPACE(4)
# Plain ints: or-ing IntFlag members costs more than the system call.
_CUT = int(socket.MSG_CTRUNC | socket.MSG_TRUNC)
_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)


def send_fds(
    sock: socket.socket,
    data: Any,
    fds: Iterable[Any],
    *,
    give: bool = False,
    flags: int = 0,
    address: Any = None,
) -> int:
    """Send one message with descriptors over a Unix socket, to any peer that speaks SCM_RIGHTS.

    Args:
        sock: A Unix socket of any type. Its timeout holds.
        data: Bytes-like. On a stream at least one byte: descriptors without data vanish there.
        fds: Up to 253 ints, `Fd` or objects with ``fileno()``. Lent, unless ``give``.
        give: Close them once the kernel took the message; on failure they stay yours.
        flags: As of sendmsg(2), for instance MSG_DONTWAIT.
        address: Where to, for an unconnected datagram socket.

    Returns:
        How many bytes were sent. On a stream it may be fewer than given: send the rest *without* the
        descriptors, for these have gone with the first byte.

    Raises:
        NotADescriptor: Before anything is sent.
        InvalidMessage: More than 253 descriptors, or no data on a stream. Nothing was sent.
        Closed: A descriptor, or the socket, is closed. Nothing was sent.
        Busy: No room now: EAGAIN, ENOBUFS, or too many descriptors in flight (ETOOMANYREFS).
        PeerClosed: Nobody can receive it any more.
        MessageTooLarge: More than the socket carries in one message (EMSGSIZE).
        Timeout: The socket's timeout ran out.
        BadDescriptor: One of the numbers is not open. Nothing was sent.
        CallFailed: sendmsg(2) failed for another reason.
    """
    items = listed(fds)
    if give:
        check_givable(items)
    rights = numbers(items)
    if len(rights) > MAX_FDS:
        raise InvalidMessage(
            f"{len(rights)} descriptors: one message carries at most {MAX_FDS}; a Channel splits them"
        )
    if rights and not data and sock.type == socket.SOCK_STREAM:
        raise InvalidMessage(
            "descriptors need at least one byte of data on a stream: without, the kernel drops them"
        )
    ancillary = [(_SOL_SOCKET, _SCM_RIGHTS, rights)] if rights else []
    try:
        if address is None:
            sent = sock.sendmsg((data,), ancillary, flags)
        else:
            sent = sock.sendmsg((data,), ancillary, flags, address)
    except OSError as error:
        _explain(sock, error, "cannot send")
    if give:
        close_given(items)
    return sent


def send_parts(sock: socket.socket, parts: tuple[Any, ...], rights: array.array[int], flags: int) -> int:
    """Send buffers as one message, with numbers already checked: what channels are made of. Raises OSError."""
    return sock.sendmsg(parts, [(_SOL_SOCKET, _SCM_RIGHTS, rights)] if rights else (), flags)


def recv_fds(sock: socket.socket, bufsize: int = 65536, *, max_fds: int = MAX_FDS, flags: int = 0) -> Message:
    """Receive one message and own its descriptors, from any peer that speaks SCM_RIGHTS.

    Args:
        sock: A Unix socket of any type. Its timeout holds.
        bufsize: The most bytes to receive, at least 1.
        max_fds: The most descriptors you want, 0 to 253. Room is made for all that the kernel can send: a
            surplus is closed and reported, not lost.
        flags: As of recvmsg(2). Do not use MSG_PEEK: see the guide.

    Returns:
        The message. No data and no descriptors is the end of file (or an empty datagram).

    Raises:
        FdsLost: Descriptors did not arrive, or were more than ``max_fds``. It has the rest of the message.
        Truncated: The datagram was longer than ``bufsize``. It has the rest of the message.
        Busy: Nothing is there, and the socket does not block.
        Timeout: The socket's timeout ran out.
        PeerClosed: The peer reset the connection.
        Closed: The socket is closed.
        CallFailed: recvmsg(2) failed for another reason.
    """
    try:
        message = receive(sock, bufsize, flags)
    except OSError as error:
        _explain(sock, error, "cannot receive")
    if message.flags & _CUT or (max_fds < MAX_FDS and len(message) > max_fds):
        _refuse(message, max_fds)
    return message


def receive(sock: socket.socket, bufsize: int, flags: int) -> Message:
    """One recvmsg(2): the message, unchecked, but owned. Raises OSError."""
    data, ancillary, msg_flags, address = sock.recvmsg(bufsize, _ROOM, flags | _CLOEXEC)
    if not ancillary:
        return Message(data, (), None, msg_flags, address or None)
    if len(ancillary) == 1 and ancillary[0][1] == _SCM_RIGHTS and not msg_flags & _CUT:
        return Message(data, array.array("i", ancillary[0][2]), None, msg_flags, address or None)
    raw = array.array("i")
    credentials = None
    for _, kind, content in ancillary:  # the level is SOL_SOCKET: Unix sockets have no other
        if kind == _SCM_RIGHTS:
            raw.frombytes(content[: len(content) & ~3])  # what is cut may end within a number
        elif kind == _SCM_CREDENTIALS and len(content) == _UCRED.size:
            credentials = Credentials(*_UCRED.unpack(content))
        elif kind == _SCM_PIDFD and len(content) == 4:
            close_all(array.array("i", content))  # SO_PASSPIDFD: one more descriptor, that nobody asked of us
    return Message(data, raw, credentials, msg_flags, address or None)


def why_lost(held: int) -> LossReason:
    """The reason for MSG_CTRUNC, now that ``held`` descriptors of the message are open here.

    The control buffer was large enough, so either no slot was free (then none is now), or something that
    decides about descriptors, a security module or BPF, dropped one.
    """
    if held >= MAX_FDS:
        return "control data cut"
    try:
        os.close(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 0))
    except OSError as error:
        return "table full" if error.errno in {errno.ENFILE, errno.EMFILE} else "unknown"  # EBADF: no descriptor 0
    return "refused by policy"


def _refuse(message: Message, max_fds: int) -> NoReturn:
    data, came, address = message.data, message.fds, message.address
    truncated = bool(message.flags & socket.MSG_TRUNC)
    keep, surplus = came[:max_fds], came[max_fds:]
    for fd in surplus:
        fd.close()
    if surplus:
        raise FdsLost("surplus", data, keep, lost=len(surplus), address=address, truncated=truncated)
    if message.flags & socket.MSG_CTRUNC:
        raise FdsLost(why_lost(len(came)), data, keep, address=address, truncated=truncated)
    raise Truncated("the datagram is longer than bufsize: its end is lost", data, keep, address)


def _explain(sock: socket.socket, error: OSError, doing: str) -> NoReturn:
    if sock.fileno() < 0:
        raise Closed("this socket is closed") from error
    raise translated(error, doing) from error
