"""``fdpass demo``: a child passes an open file to its parent, over three types of socket."""

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
    """The table at the end: for each fact, the child's value and the parent's."""
    return {name: (int(a), int(b)) for name, a, b in re.findall(r"^(\w+) +(\d+) +(\d+) ", output, re.MULTILINE)}


@pytest.mark.parametrize("kind", ["stream", "dgram", "seqpacket"])
def test_the_demo_passes_a_file_of_its_own_and_removes_it(kind, tmp_path):
    """Child and parent have one file under two numbers."""
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
def test_child_and_parent_share_the_offset(kind, tmp_path):
    """The parent does not read what the child has read."""
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


def test_an_empty_file_is_no_error(tmp_path):
    (tmp_path / "empty").touch()
    done = demo(str(tmp_path / "empty"), "--shared-offset")
    assert done.returncode == 0
    assert facts(done.stdout)["offset"] == (0, 0)


def test_the_table_has_no_offset_of_a_fifo(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen([*DEMO, str(fifo), "--shared-offset"], stdout=subprocess.PIPE, text=True) as command:
        fifo.write_text("through a pipe\n")
        output = command.communicate(timeout=60)[0]
    assert command.returncode == 0
    assert "\ngh a pipe\n" in output
    assert "offset" not in facts(output)


@pytest.mark.parametrize("kind", ["stream", "dgram", "seqpacket"])
def test_a_missing_file_is_an_error_of_one_sentence(kind, tmp_path):
    """The child has ended, too: else the output would not end."""
    done = demo(str(tmp_path / "none\n"), "--type", kind)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"fdpass demo: cannot open {tmp_path}/none\\n: No such file or directory\n"


def test_a_directory_is_an_error_of_one_sentence(tmp_path):
    """It can be opened and passed, but not read."""
    done = demo(str(tmp_path))
    assert done.returncode == 1
    assert "(dir): Is a directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_output_is_coloured_on_a_terminal_without_no_color():
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
