"""The pidfile: written at the start, removed at the end if it still holds our process ID; and checks of paths."""

import errno
import fcntl
import os
import re
import resource
import time

import pytest

from fdpass import _sockets
from fdpass.errors import CallFailed, NotFound, NotPermitted
from fdpass.serve.operator import files, servers


def test_the_pidfile_holds_the_process_id_until_the_end(tmp_path):
    path = tmp_path / "pid"
    with files.pidfile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_the_pidfile_is_removed_after_a_failure(tmp_path):
    path = tmp_path / "pid"
    with pytest.raises(LookupError), files.pidfile(str(path)):
        raise LookupError
    assert not path.exists()


def test_a_pidfile_that_another_process_has_overwritten_stays(tmp_path):
    path = tmp_path / "pid"
    with files.pidfile(str(path)):
        path.write_text("1\n")
    assert path.read_text() == "1\n"


def test_a_pidfile_that_has_been_removed_is_no_failure(tmp_path):
    path = tmp_path / "pid"
    with files.pidfile(str(path)):
        path.unlink()


@pytest.fixture
def serving(monkeypatch):
    """The process IDs of servers that serve."""
    found = set()
    monkeypatch.setattr(servers, "is_serving", found.__contains__)
    return found


def test_the_pidfile_of_a_running_server_is_refused_and_stays(tmp_path, serving):
    path = tmp_path / "pid"
    path.write_text("123\n")
    serving.add(123)
    words = f"the pidfile {path} is that of a running server, process 123: give this server its own with --pidfile"
    with pytest.raises(CallFailed, match=re.escape(words)), files.pidfile(str(path)):
        pass
    assert path.read_text() == "123\n"


@pytest.mark.parametrize("text", ["123\n", "123", "OWN", "", "-1", "1" * 30, "x", "é"])
def test_a_pidfile_that_is_no_running_servers_is_overwritten(tmp_path, serving, text):
    """It was left behind; or is our own, after an exec, or in a container in which all servers are process 1."""
    path = tmp_path / "pid"
    path.write_text(text.replace("OWN", f"{os.getpid()}\n"))
    serving.add(os.getpid())
    with files.pidfile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """``locked(act)``: another server has the folder's lock; it acts, and lets go, once we wait for it."""
    folder = os.open(tmp_path, os.O_RDONLY)

    def lock(act):
        def sleep(_):
            act()
            fcntl.flock(folder, fcntl.LOCK_UN)

        monkeypatch.setattr(time, "sleep", sleep)
        fcntl.flock(folder, fcntl.LOCK_EX)

    yield lock
    os.close(folder)


@pytest.mark.parametrize("before", [None, "456\n"], ids=["none", "left"])
def test_of_servers_that_start_in_the_same_moment_one_gets_the_pidfile(tmp_path, serving, locked, before):
    """The other one writes it between our check and our writing."""
    path = tmp_path / "pid"
    if before:
        path.write_text(before)
    serving.add(123)
    locked(lambda: path.write_text("123\n"))
    with pytest.raises(CallFailed, match="is that of a running server, process 123"), files.pidfile(str(path)):
        pass
    assert path.read_text() == "123\n"


def test_a_pidfile_that_our_successor_writes_while_we_end_stays(tmp_path, locked):
    path = tmp_path / "pid"
    with files.pidfile(str(path)):
        locked(lambda: path.write_text("123\n"))
    assert path.read_text() == "123\n"


def test_a_folder_that_somebody_has_locked_for_ever_delays_only(tmp_path, locked, monkeypatch):
    monkeypatch.setattr(_sockets, "_LOCK_MAX", 0)
    locked(lambda: pytest.fail("waits"))
    path = tmp_path / "pid"
    with files.pidfile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


@pytest.mark.parametrize("before", [None, "123\n"], ids=["none", "left"])
def test_a_full_disk_leaves_no_empty_pidfile(tmp_path, serving, before):
    path = tmp_path / "pid"
    if before:
        path.write_text(before)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(CallFailed) as caught, files.pidfile(str(path)):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert str(path) in str(caught.value)
    assert not path.exists()


def test_a_device_that_is_full_is_not_removed(tmp_path):
    path = tmp_path / "pid"
    path.symlink_to("/dev/full")
    with pytest.raises(CallFailed, match="No space left"), files.pidfile(str(path)):
        pass
    assert path.is_symlink()


def test_without_a_path_there_is_no_pidfile():
    with files.pidfile(""):
        pass


def test_a_pidfile_that_cannot_be_written_is_refused_with_its_path(tmp_path):
    path = f"{tmp_path}/none/pid"
    with pytest.raises(NotFound, match=f"cannot write the pidfile {path}"), files.pidfile(path):
        pass


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.touch(), lambda path: None], ids=["FIFO", "file", "none"]
)
def test_a_path_that_can_be_written_passes_the_check_which_makes_nothing(tmp_path, make):
    path = tmp_path / "log"
    make(path)
    before = os.listdir(tmp_path)
    files.check_writable(str(path), "the access log")
    assert os.listdir(tmp_path) == before


def test_a_path_that_cannot_be_written_is_refused_with_its_purpose(tmp_path):
    with pytest.raises(CallFailed, match=f"cannot write the access log {tmp_path}: Is a directory"):
        files.check_writable(str(tmp_path), "the access log")
    with pytest.raises(
        NotFound, match=f"cannot make the access log {tmp_path}/no/log: folder {tmp_path}/no: No such"
    ):
        files.check_writable(f"{tmp_path}/no/log", "the access log")


def test_a_path_in_a_folder_that_is_not_writable_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(NotPermitted, match=r"cannot make the control socket .*: Permission denied"):
        files.check_folder(f"{tmp_path}/c", "the control socket")


def test_a_relative_path_is_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files.check_folder("log", "the access log")
