"""`share` and `view`: bytes in a sealed memfd, which many processes read without a copy, and none can change."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import sys
from pickle import PickleBuffer
from typing import Any

from fdpass._errors import NotSealed, ProtocolError, translated
from fdpass._fd import Fd, opened
from fdpass._lending import BytesLike

_NOEXEC_SEAL = 0x0008  # MFD_NOEXEC_SEAL, Linux 6.3; CPython 3.11 has no name for it
_NEEDED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_ALL = _NEEDED | fcntl.F_SEAL_SEAL
_UNTRACKED: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


def share(buffer: BytesLike, *, name: str = "") -> Fd:
    """Copy bytes into a sealed memfd, which no process can change, grow or shrink, not even yours.

    Args:
        buffer: Bytes-like and contiguous, of any size, shape and element type. Its bytes are copied as they are in
            memory.
        name: Up to 249 bytes, shown in /proc/PID/fd.

    Returns:
        The descriptor; you own it. Pass it to another process, which reads it with `view`.

    Raises:
        TypeError: ``buffer`` is not bytes-like.
        BufferError: ``buffer`` is not contiguous.
        CallFailed: memfd_create(2) failed (EINVAL: the name is too long), or there is no memory.
    """
    content: Any = buffer
    whole = PickleBuffer(content).raw()  # memoryview.cast() refuses other byte orders, structures, empty tables
    try:
        fd = _create(name)
    except OSError as error:
        raise translated(error, "cannot create a memfd") from error
    try:
        done = 0
        while done < len(whole):  # one write(2) takes at most 2 GiB less a page
            done += os.write(fd.fileno(), whole[done:])
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _ALL)
    except OSError as error:
        fd.close()
        raise translated(error, "cannot fill a memfd") from error
    except BaseException:
        fd.close()
        raise
    return fd


def common(size: int, *, name: str) -> Fd:
    """A memfd of zeros that each holder may write, and none can shrink: so no reader gets SIGBUS.

    Args:
        size: Bytes, 1 or more. The kernel takes memory for a page when it is first written.
        name: As for `share`.

    Returns:
        The descriptor; you own it. Map it with `mapped`.

    Raises:
        CallFailed: memfd_create(2) or ftruncate(2) failed.
    """
    try:
        fd = _create(name)
    except OSError as error:
        raise translated(error, "cannot create a memfd") from error
    try:
        os.ftruncate(fd.fileno(), size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _ALL & ~fcntl.F_SEAL_WRITE)
    except OSError as error:
        fd.close()
        raise translated(error, "cannot size a memfd") from error
    return fd


def mapped(fd: Fd) -> mmap.mmap:
    """Map a memfd of `common`: the mapping is shared with all its holders. ``fd`` is lent.

    Raises:
        CallFailed: mmap(2) failed.
    """
    try:
        return mmap.mmap(fd.fileno(), os.fstat(fd.fileno()).st_size, **_UNTRACKED)
    except OSError as error:
        raise translated(error, "cannot map the memfd") from error


def _create(name: str) -> Fd:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return opened(os.memfd_create, name, flags | _NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a kernel that does not know the flag
            raise
        return opened(os.memfd_create, name, flags)


def view(fd: Fd | int) -> memoryview:
    """Read a sealed memfd without a copy.

    Args:
        fd: The memfd, lent.

    Returns:
        Its bytes, read-only. The mapping lives as long as this view and the views made from it; before Python 3.13
        it keeps a duplicate of the descriptor as long.

    Raises:
        NotSealed: ``fd`` is no memfd, or it lacks seals: another process could change it while you read, or shrink
            it, so that reading raises SIGBUS.
        Closed: The `Fd` is closed.
        CallFailed: mmap(2) failed.
    """
    number = fd if isinstance(fd, int) else fd.fileno()
    _check_sealed(number)
    size = os.fstat(number).st_size
    if size == 0:  # mmap(2) refuses a length of 0
        return memoryview(b"")
    try:
        # MAP_PRIVATE: before Linux 6.7 a shared mapping of a write-sealed memfd is refused.
        return memoryview(mmap.mmap(number, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ, **_UNTRACKED))
    except OSError as error:
        raise translated(error, "cannot map the memfd") from error


def contents(fd: Fd, size: int) -> bytes:
    """Copy the bytes of a sealed memfd, lent, for which a peer announced this size.

    Raises:
        ProtocolError: ``fd`` is no sealed memfd, or has another size.
        CallFailed: It could not be read.
    """
    try:
        _check_sealed(fd.fileno())
        if os.fstat(fd.fileno()).st_size != size:
            raise ProtocolError("the peer sent a message in a memfd, but announced another size")
        buffer = bytearray(size)
        with memoryview(buffer) as rest:
            done = 0
            while done < size:
                done += os.preadv(fd.fileno(), [rest[done:]], done)
    except NotSealed as error:
        raise ProtocolError("the peer sent a message in a descriptor that is no sealed memfd") from error
    except OSError as error:
        raise translated(error, "cannot read the memfd of a message") from error
    return bytes(buffer)


def _check_sealed(fd: int) -> None:
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        if error.errno != errno.EINVAL:  # not a kind of file that has seals
            raise translated(error, f"cannot read the seals of descriptor {fd}") from error
        raise NotSealed(f"descriptor {fd} is no memfd: make one with share()") from None
    if seals & _NEEDED != _NEEDED:
        raise NotSealed(f"descriptor {fd} lacks seals: make it with share(), or use F_ADD_SEALS of fcntl(2)")
