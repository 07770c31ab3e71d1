"""`Fd.kind`: asking changes nothing, needs nothing, and cannot be deceived by a name."""

import errno
import fcntl
import os
import select
import socket
import tempfile

import pytest

from fdpass import BadDescriptor, CallFailed, Fd, Policy, share
from fdpass import _kinds as kinds
from fdpass.testing import full_table


@pytest.fixture
def without_proc(monkeypatch):
    """As in a chroot."""

    def missing(path):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    monkeypatch.setattr(os, "readlink", missing)


@pytest.fixture
def unnamed():
    """A file on tmpfs that has no name, as a memfd has none."""
    with Fd(os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR)) as fd:
        yield fd


def test_asking_does_not_change_a_socket_where_a_default_timeout_is_set():
    """O_NONBLOCK belongs to the open file, which the sender has, too."""
    ours, theirs = socket.socketpair()
    with ours, theirs, Fd(os.dup(ours.fileno())) as fd:
        before = fcntl.fcntl(fd.fileno(), fcntl.F_GETFL)
        socket.setdefaulttimeout(5)
        try:
            assert fd.kind == "socket"
            assert Policy(kinds={"socket"}).objection([fd.fileno()]) is None
        finally:
            socket.setdefaulttimeout(None)
        assert fcntl.fcntl(fd.fileno(), fcntl.F_GETFL) == before


@pytest.mark.parametrize("path", ["/", "/dev/null", __file__, "socket"])
def test_a_descriptor_that_was_opened_with_o_path_has_a_kind(tmp_path, path):
    """A peer can send one; the kernel refuses most calls on it."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
    expected = {"/": "dir", "/dev/null": "char", "socket": "socket"}.get(path, "file")
    with Fd(os.open(tmp_path / path, os.O_PATH)) as fd:
        assert fd.kind == expected
        with pytest.raises(OSError, match="O_PATH" if expected == "socket" else expected):
            fd.socket()


def test_a_closed_number_is_a_bad_descriptor():
    """Other code has closed it."""
    r, w = map(Fd, os.pipe())
    os.close(r.fileno())
    with w, pytest.raises(BadDescriptor, match=f"descriptor {r.fileno()}"):
        r.kind  # noqa: B018
    r.take()


@pytest.mark.parametrize("link", ["/memfd:x", "/memfd:x (deleted)"])
def test_a_file_whose_name_is_that_of_a_memfd_is_a_file(unnamed, link):
    """A file of this name in the root of a tmpfs has this link, in another mount namespace for instance."""
    assert kinds.kind_from(os.fstat(unnamed.fileno()), link) == "file"
    assert kinds.kind_from(os.stat(__file__), link) == "file"


def test_a_memfd_is_one_whatever_its_name_and_its_pages(unnamed):
    """A memfd of huge pages is on another device than the others."""
    with share(b"x", name="anything") as fd:
        assert kinds.kind_from(os.fstat(fd.fileno()), "/elsewhere") == "memfd"
    assert unnamed.kind == "file"
    try:
        huge = os.memfd_create("huge", os.MFD_HUGETLB)
    except OSError:
        pytest.skip("this kernel has no huge pages")
    with Fd(huge) as fd:
        assert fd.kind == "memfd"


def test_without_proc_only_anonymous_inodes_have_no_kind(without_proc, unnamed):
    """eventfd, epoll and the like are told by their link alone."""
    r, w = map(Fd, os.pipe())
    with r, w, share(b"x") as memory, socket.create_server(("127.0.0.1", 0)) as listener, Fd.open("/") as folder:
        found = [kinds.kind_of(each.fileno()) for each in (r, memory, listener, folder, unnamed)]
    assert found == ["pipe", "memfd", "listener", "dir", "file"]
    with Fd(os.eventfd(0)) as fd, pytest.raises(CallFailed, match="/proc"):
        fd.kind  # noqa: B018


def test_a_policy_examines_descriptors_when_the_table_is_full(unnamed):
    """It has learnt at its construction what takes a free slot."""
    kinds._memfd_device.cache_clear()
    policy = Policy(kinds={"memfd"})
    with share(b"x") as memory, full_table():
        assert policy.objection([memory.fileno()]) is None
        assert "kind file" in policy.objection([unnamed.fileno()])


def test_a_full_table_is_a_typed_error(unnamed):
    """A file without a name could be a memfd, and the first question of this kind takes a free slot."""
    kinds._memfd_device.cache_clear()
    with full_table(), pytest.raises(CallFailed) as caught:
        unnamed.kind  # noqa: B018
    assert caught.value.errno == errno.EMFILE
    with tempfile.TemporaryFile() as file, Fd(os.dup(file.fileno())) as fd, select.epoll():
        assert fd.kind == "file"
