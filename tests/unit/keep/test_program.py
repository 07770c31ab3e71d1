"""Starting a program: its descriptors, its variables, and what fails."""

import contextlib
import os
import signal

import pytest

from fdpass import Fd
from fdpass._keep.processes import is_descendant
from fdpass._keep.program import Program, describe, start
from fdpass.errors import CallFailed, NotFound, NotPermitted
from fdpass.testing import full_table


@contextlib.contextmanager
def running(*command, fds=(), environment=None):
    program = start(command, fds, environment or dict(os.environ), most_files=256)
    try:
        yield program
    finally:
        program.signal(signal.SIGKILL)
        program.reap()
        program.close()


def output(script, fds=(), environment=None):
    """What a shell script prints."""
    reading, writing = os.pipe()
    with open(reading) as read, Fd(writing) as out:
        words = ["sh", "-c", f"exec >/dev/fd/{3 + len(fds)}; {script}"]
        with running(*words, fds=[*fds, ("out", out)], environment=environment):
            out.close()
            return read.read()


def memory(text):
    fd = os.memfd_create("test")
    os.write(fd, text)
    os.lseek(fd, 0, 0)
    return Fd(fd)


def test_descriptors_are_at_3_and_after_whatever_their_numbers_were():
    """Also where source and target numbers overlap, in reverse order."""
    with contextlib.ExitStack() as held:
        fds = [(f"n{i}", held.enter_context(memory(str(i).encode()))) for i in range(9)][::-1]
        found = output(
            "echo $LISTEN_FDS $LISTEN_FDNAMES $LISTEN_PID = $$; cat /dev/fd/3 /dev/fd/5 /dev/fd/11", fds
        )
    first, second = found.split("\n")
    assert first.split()[:2] == ["10", "n8:n7:n6:n5:n4:n3:n2:n1:n0:out"]
    pid, _, own = first.split()[2:]
    assert own == pid
    assert second == "860"


def test_without_descriptors_there_are_no_variables(tmp_path):
    with running("sh", "-c", f"env >{tmp_path}/out", environment={"PATH": os.environ["PATH"]}) as program:
        assert program.reap() == 0
    assert "LISTEN" not in (tmp_path / "out").read_text()


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("none", NotFound, "No such file"),
        ("plain", NotPermitted, "Permission denied"),
        ("text", CallFailed, "Exec format error"),
    ],
)
def test_a_program_that_cannot_be_run_is_an_error(tmp_path, name, kind, words):
    """And leaves no process."""
    (tmp_path / "plain").write_text("")
    (tmp_path / "text").write_text("\x7fELF")
    (tmp_path / "text").chmod(0o755)
    with pytest.raises(kind, match=f"cannot run .*{name}: {words}"):
        start([str(tmp_path / name)], [], {}, most_files=256)


def test_variables_that_are_too_long_are_an_error():
    """E2BIG: the store sees to it that LISTEN_FDNAMES is not."""
    with pytest.raises(CallFailed, match="Argument list too long"):
        start(["true"], [], {"X": "x" * 200_000}, most_files=256)


def test_a_full_table_is_an_error():
    with full_table(), pytest.raises((CallFailed, OSError)):
        start(["true"], [], {}, most_files=256)


def test_the_limit_on_open_files_is_the_programs():
    assert output("ulimit -Sn") == "256\n"


def test_a_process_that_is_no_child_has_no_status():
    program = Program(os.getppid())
    assert program.reap() is None
    program.close()
    program.close()


def test_a_signal_to_an_ended_process_does_nothing():
    program = start(["true"], [], dict(os.environ), most_files=256)
    assert program.reap() == 0
    program.signal(signal.SIGTERM)
    program.signal_group(signal.SIGTERM)
    program.close()


def test_a_process_that_does_not_exist_cannot_be_watched():
    with pytest.raises(CallFailed, match="cannot watch process"):
        Program(2**22)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exit code 0"),
        (-9, "killed by SIGKILL"),
        (-40, "killed by signal 40"),
        (None, "exit code unknown"),
    ],
)
def test_a_status_is_described(status, words):
    assert describe(status) == words


def test_descendants_are_told_from_other_processes():
    with running("sh", "-c", "sleep 60 & wait") as program:
        assert is_descendant(program.pid)
    assert not is_descendant(os.getppid())
    assert not is_descendant(1)
    assert not is_descendant(2**22)


def test_a_program_that_cannot_be_watched_does_not_run(monkeypatch):
    """The descriptor table may be full just then; the next try can be better, and there must not be two."""

    def full(pid):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", full)
    with pytest.raises(CallFailed, match="cannot watch process"):
        start(["sleep", "60"], [], dict(os.environ), most_files=256)


def test_a_table_that_is_full_at_any_step_leaves_nothing():
    for free in range(4):
        with full_table(free), contextlib.suppress(CallFailed):
            program = start(["true"], [], dict(os.environ), most_files=256)
            program.reap()
            program.close()
