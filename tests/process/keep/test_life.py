"""The life of a program under `fdpass keep`: restarts, signals, exit codes, child processes."""

import glob
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fdpass.testing import children

EXITS = [sys.executable, "-c", "import sys; sys.exit(int(sys.argv[1]))"]


@pytest.mark.parametrize(
    ("restart", "end", "code"),
    [
        ("no", "os._exit(7)", 7),
        ("on-failure", "os.kill(os.getpid(), 15)", 128 + 15),
    ],
)
def test_the_exit_code_is_that_of_a_program_that_is_not_restarted(keeping, restart, end, code):
    """Without a failure `on-failure` does not restart; SIGTERM from elsewhere is none, as under systemd."""
    keep = keeping("--restart", restart)
    pid, _ = keep.started()
    keep.tell(end)
    found, log = keep.wait()
    assert found == code
    assert f"process {pid} ended (" in log
    assert "; no other is started" in log


@pytest.mark.parametrize(
    ("restart", "end", "words"),
    [
        ("always", "os._exit(0)", "exit code 0"),
        ("on-failure", "os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
    ],
)
def test_a_program_is_restarted(keeping, restart, end, words):
    keep = keeping("--restart", restart)
    pid, _ = keep.started()
    keep.tell(end)
    second, _ = keep.started()
    assert second != pid
    assert f"({words}); another is started in 0.1 s" in keep.log(f"process {pid} ended")
    assert keep.list()["program"]["starts"] == 2


def test_a_program_that_fails_at_once_is_restarted_at_growing_intervals(keeping):
    keep = keeping(program=[*EXITS, "3"])
    waits = [keep.log("another is started").partition("started in ")[2].split()[0] for _ in range(4)]
    assert waits == ["0.1", "0.2", "0.4", "0.8"]
    code, _ = keep.stop()
    assert code == 0


def test_a_program_that_cannot_be_run_is_an_error_of_one_sentence(keeping, tmp_path):
    """At the first start; the listeners' socket files are removed."""
    keep = keeping("--listen", f"unix:{tmp_path}/s", program=["/nonexistent/program"])
    code, log = keep.wait()
    assert code == 1
    assert log.splitlines()[-1] == "fdpass keep: cannot run /nonexistent/program: No such file or directory"
    assert not os.path.exists(tmp_path / "s")


def test_a_program_that_is_being_replaced_is_tried_again(keeping, tmp_path):
    """At a restart its file may be missing for a moment."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho start $$\nread line\nexit 1\n")
    program.chmod(0o755)
    keep = keeping(program=[program])
    keep.started()
    program.rename(tmp_path / "other")
    keep.tell("")
    assert "the next try is in 0.2 s" in keep.log("cannot run")
    (tmp_path / "other").rename(program)
    keep.started()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_program_and_then_the_command(told, number):
    """SIGTERM ends the program, which has no handler: that is a success."""
    code, log = told.stop(number)
    assert code == 0
    assert f"stopping: process {told.pid} ends (at most 10 s)" in log


def test_the_exit_code_of_a_program_that_handles_sigterm_is_passed_on(told):
    told.tell("signal.signal(signal.SIGTERM, lambda *_: os._exit(5)); say('')")
    told.line()
    assert told.stop()[0] == 5


def test_a_program_that_ignores_sigterm_is_killed_after_the_stop_timeout(keeping):
    keep = keeping("--stop-timeout", "0.2")
    keep.started()
    keep.ask("signal.signal(signal.SIGTERM, signal.SIG_IGN); say('')")
    code, log = keep.stop()
    assert code == 128 + 9
    assert "did not end in time (--stop-timeout): it is killed" in log


def test_a_second_signal_kills_at_once(told):
    told.ask("signal.signal(signal.SIGTERM, lambda *_: say('caught')); say('')")
    told.process.send_signal(signal.SIGTERM)
    assert told.line() == "caught"
    assert told.stop()[0] == 128 + 9


def test_a_stopped_process_can_be_stopped(told):
    """SIGTERM is handled once the process continues."""
    told.ask("signal.signal(signal.SIGTERM, lambda *_: os._exit(6)); say('')")
    os.kill(told.pid, signal.SIGSTOP)
    assert told.stop()[0] == 6


def test_a_stop_while_the_program_waits_for_its_restart_ends_at_once(keeping):
    keep = keeping(program=[*EXITS, "1"])
    for _ in range(3):
        keep.log("another is started")
    assert keep.stop()[0] == 0


@pytest.mark.parametrize("name", ["SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH"])
def test_other_signals_are_passed_on_to_the_program(told, name):
    told.ask(f"signal.signal(signal.{name}, lambda *_: say('caught {name}')); say('')")
    told.process.send_signal(getattr(signal, name))
    assert told.line() == f"caught {name}"


def test_the_program_has_a_process_group_of_its_own(told):
    """Ctrl-C on a terminal reaches `fdpass keep` alone."""
    assert told.ask("say(os.getpgrp() == os.getpid())") == "True"


def test_a_program_gets_no_ignored_or_blocked_signal_and_no_other_descriptor(keeping, tmp_path):
    """Python ignores SIGPIPE. This program is not Python, which would ignore it again."""
    with open(tmp_path / "foreign", "w") as foreign:
        script = "grep -E 'Sig(Ign|Blk)' /proc/$$/status | cut -f 2; exec sleep 60"
        keep = keeping(program=["sh", "-c", script], pass_fds=[foreign.fileno()])
    blocked, ignored = (int(keep.line(), 16) for _ in range(2))
    assert (blocked, ignored & 1 << signal.SIGPIPE - 1) == (0, 0)
    pid = keep.list()["program"]["pid"]
    while Path(f"/proc/{pid}/comm").read_text() != "sleep\n":  # until then the shell has a descriptor of its own
        time.sleep(0.01)
    assert not {os.readlink(link) for link in glob.glob(f"/proc/{pid}/fd/*")} & {foreign.name}
    assert max(map(int, os.listdir(f"/proc/{pid}/fd"))) < 10


def test_variables_of_an_outer_service_manager_do_not_reach_the_program(keeping):
    foreign = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "LISTEN_PIDFDID": "1", "FDSTORE": "9"}
    keep = keeping(program=["env"], env={**os.environ, **foreign})
    code = keep.process.wait(60)
    lines = keep.process.stdout.read().splitlines()
    assert code == 0
    assert not [line for line in lines if line.startswith("LISTEN")]
    assert {"FDSTORE=512", f"NOTIFY_SOCKET={keep.control}.notify"} <= set(lines)


def test_processes_that_a_dead_program_leaves_are_ended_before_the_next_start(told):
    """Also one that has left the process group. Its next process must not meet the old ones' files and ports."""
    told.tell("child = os.fork(); child or signal.pause(); say(child)")
    child = told.line()
    told.tell("other = os.fork(); other or (os.setsid(), say(os.getpid()), signal.pause())")
    other = told.line()
    told.kill(told.pid)
    assert not os.path.exists(f"/proc/{child}")
    assert not os.path.exists(f"/proc/{other}")


def test_children_of_the_program_have_time_to_end(told):
    """A shell ends at SIGTERM before the program that it has started: that one is waited for."""
    told.tell(
        "import time; child = os.fork(); "
        "child or (signal.signal(15, lambda *_: (time.sleep(0.3), say('last words'), os._exit(0))), "
        "say('ready'), signal.pause())"
    )
    assert told.line() == "ready"
    assert told.stop()[0] == 0
    assert told.line() == "last words"


def test_orphans_are_reaped(told):
    """`fdpass keep` is the parent of processes whose parents end, as process 1 of a container is."""
    told.tell(
        "middle = os.fork(); "
        "middle or (os.fork() or (say(os.getpid()), os.read(os.pipe()[0], 0), os._exit(0)), os._exit(0)); "
        "os.waitpid(middle, 0)"
    )
    pid = int(told.line())
    for _ in range(1000):
        if not os.path.exists(f"/proc/{pid}"):
            break
        told.list()  # the orphan ends meanwhile, and SIGCHLD comes
    assert not os.path.exists(f"/proc/{pid}")


def test_mainpid_makes_another_process_the_program(told):
    """The old process ends, and the new one is signalled, stopped and restarted."""
    told.tell("old = os.getpid(); child = os.fork(); child and (notify(f'MAINPID={child}'), barrier(), os._exit(0)); say(os.getpid())")  # fmt: skip  # noqa: E501
    child = int(told.line())
    assert told.log(f"process {child} is the program from now on")
    assert told.list()["program"]["pid"] == child
    while told.ask("say(os.getppid())") != str(told.process.pid):  # the old process has not ended yet
        time.sleep(0.01)
    told.ask("signal.signal(signal.SIGHUP, lambda *_: say('caught')); say('')")
    told.process.send_signal(signal.SIGHUP)
    assert told.line() == "caught"
    told.kill(child)
    assert told.stop()[0] == 0


def test_mainpid_of_a_foreign_process_is_ignored(told):
    told.ask(f"notify('MAINPID={os.getpid()}'); barrier(); say('')")
    assert told.log(f"ignored MAINPID={os.getpid()}")
    assert told.list()["program"]["pid"] == told.pid


def test_a_terminal_is_not_the_standard_input_of_the_program(keeping):
    """A process group in the background would be stopped when it reads from its terminal."""
    master, slave = pty.openpty()
    keep = keeping(program=["sh", "-c", "readlink /proc/$$/fd/0"], stdin=slave)
    assert keep.line() == "/dev/null"
    os.close(slave)
    os.close(master)


def test_listeners_block_at_each_start_and_their_socket_file_is_removed_at_the_end(keeping, tmp_path):
    path = tmp_path / "web"
    keep = keeping("--listen", f"web=unix:{path}", "--listen", "[::1]:0")
    pid, given = keep.started()
    assert given == ["web:listener", "listener:listener"]
    keep.tell("web = by_name['web'].socket(); say(web.getblocking()); web.setblocking(False)")
    assert keep.line() == "True"
    keep.ask("say('')")
    keep.kill(pid)
    keep.tell("web = by_name['web'].socket(); say(web.getblocking())")
    assert keep.line() == "True"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    keep.stop()
    assert not path.exists()


ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="outer")
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_what_the_command_itself_got_by_socket_activation_is_passed_on(keeping):
    """At each start, before its own listeners, with the name."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.fileno()
        prefix = [sys.executable, "-c", ACTIVATE, str(number)]
        keep = keeping("--listen", "own=127.0.0.1:0", prefix=prefix, pass_fds=[number])
        pid, given = keep.started()
        assert given == ["outer:listener", "own:listener"]
        assert keep.kill(pid)[1] == given
        address = keep.ask("say(by_name['outer'].socket().getsockname())")
        assert address == str(server.getsockname())


def test_nothing_is_left_over(keeping, tmp_path):
    """After a stop: no process, no file."""
    before = children()
    keep = keeping("--listen", f"unix:{tmp_path}/s")
    keep.started()
    keep.ask("store('n', file_of('x')); child = os.fork(); child or signal.pause(); say('')")
    keep.stop()
    assert {each.name for each in tmp_path.iterdir()} == set()
    keep.process.stdout.close()
    assert children() == before


def test_a_second_one_with_the_same_control_socket_is_refused(told):
    done = subprocess.run(
        [sys.executable, "-m", "fdpass", "keep", "--control", told.control, "--", "true"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "another fdpass keep has the control socket" in done.stderr
    assert told.names() == []


def test_after_kill_9_of_the_command_itself_the_next_one_starts(keeping):
    """It replaces the socket files. The program ends with `fdpass keep`, so that no port stays taken."""
    keep = keeping()
    pid, _ = keep.started()
    keep.process.kill()
    keep.process.wait()
    assert keep.process.stdout.read() == ""  # the program has ended: the kernel has sent it SIGTERM
    assert not os.path.exists(f"/proc/{pid}/fd/0")
    again = keeping()
    again.started()
    assert again.names() == []


def test_a_signal_that_nohup_ignores_is_ignored_by_command_and_program(keeping):
    keep = keeping(program=["sh", "-c", "grep SigIgn /proc/$$/status; exec sleep 60"], prefix=["nohup"])
    assert int(keep.line().split()[1], 16) & 1 << signal.SIGHUP - 1
    keep.process.send_signal(signal.SIGHUP)
    assert keep.list()["program"]["state"] == "running"


def test_the_first_process_of_a_container_reaps_and_stops(keeping):
    """Process 1 of a PID namespace gets no signal that it has no handler for, and every orphan."""
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    probe = subprocess.run([*unshare, "true"], check=False, capture_output=True)
    if probe.returncode:
        pytest.skip(f"no PID namespace can be made: {probe.stderr.decode().strip()}")
    keep = keeping(prefix=unshare)
    keep.started()
    assert keep.ask("say(os.getppid())") == "1"
    keep.tell(
        "middle = os.fork(); "
        "middle or (os.fork() or (say(os.getpid()), os._exit(0)), os._exit(0)); "
        "os.waitpid(middle, 0)"
    )
    orphan = keep.line()
    keep.tell(f"while os.path.exists('/proc/{orphan}'): barrier()")
    assert keep.ask("say(*sorted(each for each in os.listdir('/proc') if each.isdigit()))").split()[0] == "1"
    keep.tell("os.kill(1, signal.SIGTERM)")
    code, _ = keep.wait()
    assert code == 0
