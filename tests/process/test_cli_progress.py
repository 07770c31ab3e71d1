"""What a person sees on a terminal while a command waits or copies, and where nothing may be shown."""

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios

import pytest

COMMAND = [sys.executable, "-m", "fdpass"]
ERASED, CURSOR_HIDDEN = "\x1b[2K", "\x1b[?25l"


class Terminal:
    """A terminal on which a command runs: its standard error, and a shell's controlling terminal.

    A command alone has no controlling terminal: at the end of its session the kernel would hang it up, and
    could discard what was written last.
    """

    def __init__(self):
        self._master, self.end = pty.openpty()
        self.shown = ""

    @contextlib.contextmanager
    def run(self, *arguments, **options):
        """Start a command, or a shell in the foreground of this terminal, in a session of its own."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": self.end, **options}
        options["env"] = {**os.environ, "TERM": "xterm", "COLUMNS": "200", **options.get("env", {})}
        if arguments[0] == "sh":
            options["preexec_fn"] = lambda: fcntl.ioctl(self.end, termios.TIOCSCTTY, 0)
        else:
            arguments = [*COMMAND, *map(str, arguments)]
        with subprocess.Popen([*arguments], start_new_session=True, **options) as command:
            try:
                yield command
            finally:
                if command.poll() is None:  # the test has failed
                    command.kill()

    def foreground(self):
        """The process group in the terminal's foreground."""
        return os.tcgetpgrp(self._master)

    def wait_for(self, text):
        """Read until the terminal has shown this text; fails if the command ends without it."""
        while text not in self.shown:
            self.shown += os.read(self._master, 65536).decode(errors="replace")

    def rest(self):
        """Close the command's side, and return all that the terminal has shown."""
        os.close(self.end)
        self.end = -1
        with contextlib.suppress(OSError):  # EIO: no process has the other side
            while more := os.read(self._master, 65536):
                self.shown += more.decode(errors="replace")
        return self.shown

    def close(self):
        os.close(self._master)
        if self.end >= 0:
            os.close(self.end)


@pytest.fixture
def terminal():
    with contextlib.closing(Terminal()) as terminal:
        yield terminal


def send(path, *arguments, **options):
    return subprocess.run([*COMMAND, "send", str(path), *map(str, arguments)], timeout=60, check=True, **options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "socket"


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "file"
    file.write_text("some text\n")
    return file


def test_recv_shows_that_it_waits_and_prints_the_data_alone(terminal, path, file, tmp_path):
    with open(tmp_path / "copy", "wb") as copy, terminal.run("recv", path, stdout=copy) as recv:
        terminal.wait_for(f"waiting for a message at {path}")
        send(path, file)
        assert recv.wait(60) == 0
    assert (tmp_path / "copy").read_text() == "some text\n"
    assert terminal.rest().endswith(ERASED)


def test_send_with_wait_shows_that_it_waits_for_a_listener(terminal, path, file):
    with terminal.run("send", path, file, "--wait", 60) as sender:
        terminal.wait_for(f"waiting for a listener at {path}")
        with subprocess.Popen([*COMMAND, "recv", str(path)], stdout=subprocess.PIPE) as recv:
            assert recv.communicate(timeout=60)[0] == b"some text\n"
        assert sender.wait(60) == 0


def test_send_with_wait_shows_that_it_waits_for_the_other_end_of_a_fifo(terminal, path, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with terminal.run("send", path, fifo, "--wait", 60) as sender:
        terminal.wait_for(f"waiting until a process opens {fifo}")
        with open(fifo, "wb"):
            terminal.wait_for(f"waiting for a listener at {path}")
        sender.send_signal(signal.SIGINT)
        assert sender.wait(60) == -signal.SIGINT


def test_a_copy_that_takes_its_time_shows_how_much_was_copied(terminal, path, tmp_path):
    """Here of a pipe, whose writer is slow."""
    reader, writer = os.pipe()
    with open(tmp_path / "copy", "wb") as copy, terminal.run("recv", path, stdout=copy) as recv:
        terminal.wait_for("waiting")
        send(path, "-", stdin=reader)
        os.close(reader)
        os.write(writer, b"x" * 5000)
        terminal.wait_for("copying")
        terminal.wait_for("5.0/?")
        os.close(writer)
        assert recv.wait(60) == 0
    assert (tmp_path / "copy").read_bytes() == b"x" * 5000


def test_a_copy_to_the_terminal_shows_nothing_but_the_data(terminal, path):
    reader, writer = os.pipe()
    with terminal.run("recv", path, stdout=terminal.end) as recv:
        terminal.wait_for("waiting")
        send(path, "-", stdin=reader)
        os.close(reader)
        terminal.wait_for(ERASED)
        os.write(writer, b"first")
        terminal.wait_for("first")
        os.write(writer, b"second")
        os.close(writer)
        assert recv.wait(60) == 0
    assert terminal.rest().endswith("firstsecond")


def test_nothing_is_shown_if_standard_output_is_a_pipe(terminal, path, file):
    """The pipe's reader, such as less, may use the same terminal."""
    with terminal.run("recv", path, stdout=subprocess.PIPE) as recv:
        send(path, file, "--wait", 60)
        assert recv.communicate(timeout=60)[0] == b"some text\n"
    assert terminal.rest() == ""


def test_nothing_is_shown_by_a_command_in_the_background(terminal, path, file):
    line = f"{sys.executable} -m fdpass recv {path} --timeout 60 & wait"
    with terminal.run("sh", "-mc", line, stdin=terminal.end) as shell:
        send(path, file, "--wait", 60)
        assert shell.wait(60) == 0
    assert "waiting" not in terminal.rest()


def test_nothing_is_shown_without_rich(terminal, path, file, tmp_path):
    (tmp_path / "rich.py").write_text("raise ImportError")
    folders = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with terminal.run("recv", path, env={"PYTHONPATH": folders}) as recv:
        send(path, file, "--wait", 60)
        assert recv.wait(60) == 0
    assert terminal.rest() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_ends_the_command_removes_the_line(terminal, path, file, number):
    with terminal.run("send", path, file, "--wait", 60) as sender:
        terminal.wait_for("waiting")
        sender.send_signal(number)
        assert sender.wait(60) == -number
    assert terminal.rest().endswith(ERASED)


def test_a_command_that_goes_on_in_the_background_draws_nothing_there(terminal, path, file):
    """The shell gets SIGCHLD, as after Ctrl-Z, and then has its prompt where the line would be drawn."""
    line = f"{sys.executable} -m fdpass recv {path} --timeout 60; echo stopped; bg; wait"
    with terminal.run("sh", "-mc", line, stdin=terminal.end, stdout=terminal.end) as shell:
        terminal.wait_for("waiting")
        os.killpg(terminal.foreground(), signal.SIGSTOP)
        terminal.wait_for("stopped\r\n")
        before = terminal.shown
        send(path, file)  # takes longer than the time between two drawings
        assert shell.wait(60) == 0
    after = terminal.rest().removeprefix(before)
    assert "some text" in after
    assert "waiting" not in after
    assert ERASED not in after
    assert CURSOR_HIDDEN not in terminal.shown


def test_what_the_peer_sent_cannot_write_to_the_terminal_through_the_shown_line(terminal, tmp_path, file):
    path = tmp_path / "[red]\x1b]0;title\x07"
    with terminal.run("send", path, file, "--wait", 60) as sender:
        terminal.wait_for("[red]\\x1b]0;title\\x07")
        sender.send_signal(signal.SIGTERM)
        sender.wait(60)
