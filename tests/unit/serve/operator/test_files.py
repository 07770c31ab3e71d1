"""The pidfile: written at the start, and removed at the end if it still holds our process ID."""

import os

import pytest

from fdpass.errors import NotFound
from fdpass.serve.operator import files


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


def test_without_a_path_there_is_no_pidfile():
    with files.pidfile(""):
        pass


def test_a_pidfile_that_cannot_be_written_is_refused_with_its_path(tmp_path):
    path = f"{tmp_path}/none/pid"
    with pytest.raises(NotFound, match=f"cannot write the pidfile {path}"), files.pidfile(path):
        pass
