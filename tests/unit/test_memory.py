"""`share` makes memory that no process can change; `view` refuses all other memory."""

import array
import ctypes
import errno
import fcntl
import mmap
import os
import socket
import sys

import numpy as np
import pytest

from fdpass import BadDescriptor, CallFailed, Closed, Fd, NotSealed, share, view
from fdpass import _memory as memory

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@pytest.mark.parametrize(
    "buffer",
    [
        b"bytes",
        bytearray(b"more"),
        memoryview(b"abcdef")[2:4],
        array.array("d", [1.5, 2.5]),
        np.arange(12, dtype=">i4").reshape(3, 4),
        np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
        (ctypes.c_int * 3)(1, 2, 3),
    ],
    ids=lambda buffer: type(buffer).__name__,
)
def test_view_returns_the_bytes_of_any_buffer(buffer):
    with share(buffer) as fd, view(fd) as seen:
        assert bytes(seen) == (buffer.tobytes() if hasattr(buffer, "tobytes") else bytes(buffer))
        assert seen.readonly


@pytest.mark.parametrize("buffer", [b"", np.empty((0, 3))], ids=["bytes", "table"])
def test_an_empty_buffer_can_be_shared(buffer):
    with share(buffer) as fd, view(fd) as seen:
        assert bytes(seen) == b""


def test_share_goes_on_after_short_writes(monkeypatch):
    """write(2) writes less than asked, for instance above 2 GiB."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:7]))
    with share(bytes(range(100))) as fd, view(fd) as seen:
        assert bytes(seen) == bytes(range(100))


def test_the_memfd_is_sealed_named_and_close_on_exec():
    with share(b"x", name="for people") as fd:
        assert fd.kind == "memfd"
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & (SEALS | fcntl.F_SEAL_SEAL) == SEALS | fcntl.F_SEAL_SEAL
        assert "for people" in os.readlink(f"/proc/self/fd/{fd.fileno()}")
        assert not os.get_inheritable(fd.fileno())


@pytest.mark.parametrize(
    "change",
    [
        lambda fd: os.pwrite(fd, b"y", 0),
        lambda fd: os.ftruncate(fd, 0),
        lambda fd: os.ftruncate(fd, 4096),
        lambda fd: mmap.mmap(fd, 1, flags=mmap.MAP_SHARED),
        lambda fd: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0x20),
    ],
    ids=["write", "shrink", "grow", "map writable", "more seals"],
)
def test_the_process_that_made_the_memfd_cannot_change_it(change):
    with share(b"x") as fd:
        with pytest.raises(PermissionError):
            change(fd.fileno())
        with view(fd) as seen:
            assert bytes(seen) == b"x"


def test_the_memfd_is_not_executable_on_a_kernel_with_noexec_seal():
    with share(b"x") as fd:
        if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & 0x20:  # F_SEAL_EXEC
            pytest.skip("this kernel has no MFD_NOEXEC_SEAL")
        assert os.fstat(fd.fileno()).st_mode & 0o111 == 0


def test_share_works_on_a_kernel_without_noexec_seal(monkeypatch):
    real, asked = os.memfd_create, []

    def old_kernel(name, flags):
        asked.append(flags)
        if flags & 0x8:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(name, flags)

    monkeypatch.setattr(os, "memfd_create", old_kernel)
    with share(b"x") as fd, view(fd) as seen:
        assert bytes(seen) == b"x"
    assert len(asked) == 2


def test_a_view_outlives_the_descriptor_and_the_first_view():
    fd = share(b"still here")
    seen = view(fd)
    part = seen[6:]
    fd.close()
    seen.release()
    assert bytes(part) == b"here"
    part.release()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="mmap keeps a duplicate there")
def test_a_view_keeps_no_descriptor_from_python_3_13_on():
    with share(b"x") as fd:
        before = os.listdir("/proc/self/fd")
        with view(fd):
            assert os.listdir("/proc/self/fd") == before


def test_share_releases_the_buffer():
    buffer = bytearray(b"x")
    with share(buffer):
        buffer.extend(b"y")  # BufferError while exported


@pytest.mark.parametrize("missing", [fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW, fcntl.F_SEAL_WRITE])
def test_a_memfd_that_lacks_one_seal_is_refused(missing):
    with Fd(os.memfd_create("half", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)) as fd:
        os.write(fd.fileno(), b"x")
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS & ~missing)
        with pytest.raises(NotSealed, match="lacks seals"):
            view(fd)


def test_a_memfd_of_another_program_with_the_three_seals_is_accepted():
    with Fd(os.memfd_create("foreign", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)) as fd:
        os.write(fd.fileno(), b"x")
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        with view(fd.fileno()) as seen:
            assert bytes(seen) == b"x"


def test_files_sockets_and_pipes_are_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    one, other = socket.socketpair()
    reader, writer = os.pipe()
    with one, other, Fd(reader), Fd(writer), Fd.open(tmp_path / "file") as file:
        for number in (file.fileno(), one.fileno(), reader):
            with pytest.raises(NotSealed):
                view(number)


def test_view_of_a_closed_descriptor_is_an_error():
    fd = share(b"x")
    number = fd.fileno()
    fd.close()
    with pytest.raises(Closed):
        view(fd)
    with pytest.raises(BadDescriptor):
        view(number)


def test_errors_of_share_leave_nothing_open(monkeypatch):
    """The leak check of the suite sees what stays open."""
    with pytest.raises(TypeError):
        share("text")
    with pytest.raises(BufferError):
        share(memoryview(b"abcdef")[::2])
    with pytest.raises(CallFailed):
        share(b"x", name="n" * 250)
    monkeypatch.setattr(memory.os, "write", _no_space)
    with pytest.raises(CallFailed) as caught:
        share(b"x")
    assert caught.value.errno == errno.ENOSPC


def test_an_mmap_that_fails_is_an_error_of_view(monkeypatch):
    def failing(*_args, **_options):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(memory.mmap, "mmap", failing)
    with share(b"x") as fd, pytest.raises(CallFailed, match="cannot map"):
        view(fd)


def _no_space(_fd, _data):
    raise OSError(errno.ENOSPC, "No space left on device")
