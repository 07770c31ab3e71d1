"""`fdpass keep restart`: it returns when the program has started again, with its descriptors, or says why not."""

import os
import signal
import subprocess
import sys

import pytest

from .conftest import COMMAND, TIMEOUT


@pytest.fixture
def restarting():
    """``restarting(keep)``: the running command."""
    commands = []

    def start(keep, *options):
        words = [*COMMAND, "restart", "--control", keep.control, *options]
        commands.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return commands[-1]

    yield start
    for command in commands:
        command.kill()
        command.communicate()


def outcome(command):
    output, errors = command.communicate(timeout=TIMEOUT)
    return command.returncode, output, errors


def test_the_next_process_has_the_listeners_and_the_stored_descriptors(keeping):
    keep = keeping("--listen", "web=127.0.0.1:0")
    first, _ = keep.started()
    keep.ask("store('note', file_of('x')); say('')")
    done = keep.run("restart")
    second, given = keep.started()
    assert (done.returncode, done.stdout, done.stderr) == (0, f"process {second} runs\n", "")
    assert given == ["web:listener", "note:memfd"]
    assert second != first
    assert keep.log(f"restarting: process {first} ends (at most 10 s)")
    assert keep.log(f"process {second} runs ")
    assert keep.list()["program"]["starts"] == 2
    assert keep.stop()[0] == 0


def test_it_waits_for_ready_of_a_program_that_says_it(told, restarting):
    told.ask("notify('READY=1'); barrier(); say('')")
    assert told.log(f"process {told.pid} is ready (")
    command = restarting(told)
    pid, _ = told.started()
    assert told.list()["program"]["state"] == "running"
    done = told.run("restart")
    assert (done.returncode, done.stderr) == (1, "fdpass keep: another restart is in progress\n")
    assert command.poll() is None
    told.ask("notify('READY=1'); barrier(); say('')")
    assert outcome(command) == (0, f"process {pid} is ready\n", "")


def test_its_time_can_be_limited(told, restarting):
    told.ask("notify('READY=1'); barrier(); say('')")
    command = restarting(told, "--timeout", "0.5")
    told.started()
    assert outcome(command) == (1, "", "fdpass keep: the program has not started again within 0.5 s\n")
    told.ask("notify('READY=1'); barrier(); say('')")
    assert told.list()["program"]["state"] == "ready"


@pytest.mark.parametrize("policy", ["on-failure", "no"])
def test_a_program_that_ends_at_its_start(keeping, tmp_path, policy):
    """`fdpass keep` then does what it does after any end of the program."""
    script = tmp_path / "program"
    script.write_text("#!/bin/sh\necho start $$\nexec sleep 60\n")
    script.chmod(0o755)
    keep = keeping("--restart", policy, program=[script])
    keep.started()
    script.write_text("#!/bin/sh\necho start $$\nexit 3\n")
    done = keep.run("restart")
    pid, _ = keep.started()
    sentence = f"fdpass keep: process {pid} ended at its start (exit code 3): its own output says why\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)
    if policy == "no":
        assert keep.wait()[0] == 3
    else:
        keep.log("another is started in 0.1 s")
        keep.started()


def test_a_program_that_cannot_be_run_is_tried_again(keeping, tmp_path):
    script = tmp_path / "program"
    script.write_text("#!/bin/sh\necho start $$\nexec sleep 60\n")
    script.chmod(0o755)
    keep = keeping(program=[script])
    keep.started()
    script.rename(tmp_path / "away")
    done = keep.run("restart")
    sentence = f"fdpass keep: cannot run {script}: No such file or directory; the next try is in 0.1 s\n"
    assert (done.returncode, done.stderr) == (1, sentence)
    (tmp_path / "away").rename(script)
    keep.started()


def test_a_program_that_ignores_sigterm_is_killed_after_the_stop_timeout(keeping):
    keep = keeping("--stop-timeout", "0.2")
    first, _ = keep.started()
    keep.tell("signal.signal(15, signal.SIG_IGN); child = os.fork(); child or signal.pause(); say(child)")
    child = keep.line()
    done = keep.run("restart")
    assert done.returncode == 0
    second, _ = keep.started()
    assert keep.log(f"process {first} did not end in time (--stop-timeout): it is killed")
    assert not os.path.exists(f"/proc/{child}")
    assert keep.stop()[0] == 0
    assert second != first


def test_children_of_the_program_have_time_to_end(told):
    told.tell(
        "import time; child = os.fork(); "
        "child or (signal.signal(15, lambda *_: (time.sleep(0.3), say('last words'), os._exit(0))), "
        "say('ready'), signal.pause())"
    )
    assert told.line() == "ready"
    assert told.run("restart").returncode == 0
    assert told.line() == "last words"
    told.started()


def test_a_program_that_waits_for_its_restart_is_started_at_once(keeping):
    keep = keeping(program=[sys.executable, "-c", "import sys; sys.exit(1)"])
    for _ in range(6):
        keep.log("another is started")
    done = keep.run("restart")
    assert (done.returncode, "ended at its start (exit code 1)" in done.stderr) == (1, True)
    assert "another is started in 0.1 s" in keep.log("another is started")


def test_a_stop_ends_a_restart(told, restarting):
    told.ask("signal.signal(signal.SIGTERM, lambda *_: say('caught')); say('')")
    command = restarting(told)
    assert told.line() == "caught"
    told.process.send_signal(signal.SIGTERM)
    assert outcome(command) == (1, "", "fdpass keep: fdpass keep is stopping\n")
    told.tell("os._exit(5)")
    assert told.wait()[0] == 5
