"""`share` and `view`: bytes in a sealed memfd, which many processes read without copying and none can change."""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
from pickle import PickleBuffer
from typing import Any

from fdpass._errors import NotSealed, ProtocolError, translated
from fdpass._fd import Fd

_NOEXEC_SEAL = 0x0008  # MFD_NOEXEC_SEAL, Linux 6.3; CPython 3.11 has no name for it
_NEEDED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_ALL = _NEEDED | fcntl.F_SEAL_SEAL
_UNTRACKED: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


def share(buffer: Any, *, name: str = "") -> Fd:
    """A sealed memfd that holds these bytes: nobody, not even you, can change, grow or shrink it any more.

    Args:
        buffer: Bytes-like and contiguous, of any size, shape and element type: its bytes as they lie in memory.
        name: Up to 249 bytes, for people: it stands in /proc/PID/fd.

    Returns:
        The descriptor; you own it. Pass it on, and `view` it at the other end.

    Raises:
        TypeError: It is not bytes-like.
        BufferError: It is not contiguous.
        CallFailed: memfd_create(2) failed (EINVAL: the name is too long), or there is no memory.
    """
    whole = PickleBuffer(buffer).raw()  # memoryview.cast() refuses foreign byte orders, structures, empty tables
    try:
        fd = Fd(_create(name))
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
    """A memfd of zeros that all its holders may write, and none can shrink: nobody gets SIGBUS from it.

    Args:
        size: Bytes, 1 or more. Pages are taken when they are first written.
        name: As of `share`.

    Returns:
        The descriptor; you own it. `mapped` is how to use it.

    Raises:
        CallFailed: memfd_create(2) or ftruncate(2) failed.
    """
    try:
        fd = Fd(_create(name))
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
    """The bytes of what `common` made, shared with all its holders. ``fd`` is lent.

    Raises:
        CallFailed: mmap(2) failed.
    """
    try:
        return mmap.mmap(fd.fileno(), os.fstat(fd.fileno()).st_size, **_UNTRACKED)
    except OSError as error:
        raise translated(error, "cannot map the memfd") from error


def _create(name: str) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | _NOEXEC_SEAL)
    except OSError as error:
        if error.errno != 22:  # EINVAL: a kernel that does not know the flag
            raise
        return os.memfd_create(name, flags)


def view(fd: Fd | int) -> memoryview:
    """The bytes of a sealed memfd, read-only and without a copy.

    The mapping lives as long as the view and what was made from it; before Python 3.13 it keeps a duplicate of
    the descriptor for so long.

    Args:
        fd: Lent: it stays yours.

    Raises:
        NotSealed: It is no memfd, or whoever holds it could still change or shrink it: then reading it could
            give changing bytes, or SIGBUS.
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
    """A copy of the bytes of a sealed memfd that a peer sent as having this size.

    Raises:
        ProtocolError: It is no sealed memfd, or has another size.
        CallFailed: It could not be read.
    """
    try:
        _check_sealed(fd.fileno())
        if os.fstat(fd.fileno()).st_size != size:
            raise ProtocolError("a message came in a memfd of another size than announced")
        buffer = bytearray(size)
        with memoryview(buffer) as rest:
            done = 0
            while done < size:
                done += os.preadv(fd.fileno(), [rest[done:]], done)
    except NotSealed as error:
        raise ProtocolError("a message came in a descriptor that is no sealed memfd") from error
    except OSError as error:
        raise translated(error, "cannot read the memfd of a message") from error
    return bytes(buffer)


def _check_sealed(fd: int) -> None:
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        if error.errno != 22:  # EINVAL: not a kind of file that has seals
            raise translated(error, f"descriptor {fd}") from error
        raise NotSealed(f"descriptor {fd} is no memfd: only sealed memory can be viewed safely") from None
    if seals & _NEEDED != _NEEDED:
        raise NotSealed(f"descriptor {fd} lacks seals: share() sets them, or F_ADD_SEALS of fcntl(2)")
