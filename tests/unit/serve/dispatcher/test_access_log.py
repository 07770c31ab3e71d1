"""The file of the access log: opened for appending, and opened again after a rotation."""

import contextlib
import os

import pytest

from fdpass.errors import CallFailed
from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.testing import full_table


def test_the_access_log_is_appended_to(tmp_path):
    path = tmp_path / "access"
    for text in (b"one\n", b"two\n"):
        with contextlib.closing(AccessLog(str(path))) as log:
            assert not os.get_inheritable(log.fd.fileno())
            os.write(log.fd.fileno(), text)
    assert path.read_text() == "one\ntwo\n"
    assert path.stat().st_mode & 0o137 == 0


def test_an_access_log_that_was_moved_is_opened_again_under_the_same_number(tmp_path):
    """A message that still waits for a worker names that number."""
    path, moved = tmp_path / "access", tmp_path / "access.1"
    with contextlib.closing(AccessLog(str(path))) as log:
        number = log.fd.fileno()
        os.rename(path, moved)
        before = len(os.listdir("/proc/self/fd"))
        log.reopen()
        os.write(number, b"after")
        assert not os.get_inheritable(number)
        assert len(os.listdir("/proc/self/fd")) == before
    assert (path.read_text(), moved.read_text()) == ("after", "")


def test_a_dash_as_path_means_standard_output(capfd):
    with contextlib.closing(AccessLog("-")) as log:
        os.write(log.fd.fileno(), b"hello")
    assert capfd.readouterr().out == "hello"


def test_without_a_path_there_is_no_access_log():
    log = AccessLog("")
    log.reopen()
    assert log.fd is None
    log.close()


def test_an_access_log_that_cannot_be_opened_is_refused_with_its_path(tmp_path):
    with pytest.raises(CallFailed, match=f"cannot open the access log {tmp_path}: Is a directory"):
        AccessLog(str(tmp_path))
    for path in ("-", str(tmp_path / "log")):
        with (
            full_table(),
            pytest.raises(CallFailed, match=f"cannot open the access log {path}: Too many open files"),
        ):
            AccessLog(path)


def test_a_fifo_that_nobody_reads_is_refused_and_one_that_is_read_blocks(tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    with pytest.raises(CallFailed, match=f"cannot open the access log {path}: it is a FIFO that no process reads"):
        AccessLog(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with contextlib.closing(AccessLog(path)) as log:
        assert os.get_blocking(log.fd.fileno())
    os.close(reader)
