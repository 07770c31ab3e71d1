"""``fdpass demo``: a file passed over three types of socket, and files that cannot be read."""

import os
import pty
import re
import subprocess
import sys

import pytest

DEMO = [sys.executable, "-m", "fdpass", "demo"]


def demo(*arguments, **options):
    return subprocess.run([*DEMO, *arguments], capture_output=True, text=True, timeout=60, **options)


def facts(output):
    """The closing table: fact -> (child's, parent's)."""
    return {name: (int(a), int(b)) for name, a, b in re.findall(r"^(\w+) +(\d+) +(\d+) ", output, re.MULTILINE)}


@pytest.mark.parametrize("kind", ["stream", "dgram", "seqpacket"])
def test_demo_without_a_file_prints_its_own_file(kind, tmp_path):
    """The text arrives, from one file under two numbers; the folder made for it is gone."""
    done = demo("--type", kind, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")
    assert f"({kind})" in done.stdout
    assert "Hello, I am 1.txt.\n" in done.stdout
    told = facts(done.stdout)
    assert told["number"][0] != told["number"][1]
    assert told["inode"][0] == told["inode"][1]
    assert told["offset"] == (0, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["stream", "dgram", "seqpacket"])
def test_shared_offset_lets_the_parent_continue_from_the_childs_position(kind, tmp_path):
    """What the child has read, the parent does not get: there is one offset."""
    file = tmp_path / "story.txt"
    file.write_text("12345 and the rest\n")
    done = demo(str(file), "--type", kind, "--shared-offset")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\n and the rest\n" in done.stdout
    assert "reads its first 5 bytes: '12345'" in done.stdout
    assert facts(done.stdout) == {
        "number": facts(done.stdout)["number"],
        "inode": (file.stat().st_ino,) * 2,
        "offset": (5, 5),
    }


def test_demo_prints_an_empty_file(tmp_path):
    """Nothing to read is no error."""
    (tmp_path / "empty").touch()
    done = demo(str(tmp_path / "empty"), "--shared-offset")
    assert done.returncode == 0
    assert facts(done.stdout)["offset"] == (0, 0)


def test_demo_reads_a_pipe_that_has_no_offset(tmp_path):
    """A FIFO has none: the table leaves it out."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen([*DEMO, str(fifo), "--shared-offset"], stdout=subprocess.PIPE, text=True) as command:
        fifo.write_text("through a pipe\n")
        output = command.communicate(timeout=60)[0]
    assert command.returncode == 0
    assert "\ngh a pipe\n" in output
    assert "offset" not in facts(output)


@pytest.mark.parametrize("kind", ["stream", "dgram", "seqpacket"])
def test_demo_of_a_missing_file_fails_with_a_sentence(kind, tmp_path):
    """One sentence that names it; the child has ended too (else the output would not end)."""
    done = demo(str(tmp_path / "none\n"), "--type", kind)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"fdpass demo: cannot open {tmp_path}/none\\n: No such file or directory\n"


def test_demo_of_a_directory_fails_with_a_sentence(tmp_path):
    """It can be opened and passed, but there is no text in it."""
    done = demo(str(tmp_path))
    assert done.returncode == 1
    assert "(dir): Is a directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_demo_uses_colour_on_a_terminal():
    """Escape sequences where somebody looks, and not if NO_COLOR is set."""
    assert b"\x1b[" in on_a_terminal({})
    assert b"\x1b[" not in on_a_terminal({"NO_COLOR": "1"})


def on_a_terminal(environment):
    ours, terminal = pty.openpty()
    command = subprocess.Popen(
        DEMO, stdin=terminal, stdout=terminal, stderr=terminal, env={**os.environ, "NO_COLOR": "", **environment}
    )
    os.close(terminal)
    output = b""
    try:
        while part := os.read(ours, 65536):
            output += part
    except OSError:  # EIO: the last holder of the terminal has closed it
        pass
    os.close(ours)
    assert command.wait(60) == 0
    return output
