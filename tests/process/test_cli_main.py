"""The command as a whole: help, version, usage, closed output and interrupts."""

import os
import signal
import subprocess
import sys

import pytest

import fdpass

VERBS = ["demo", "send", "recv", "grab", "inspect"]


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "fdpass", *arguments], capture_output=True, text=True, timeout=60, **options
    )


def test_help_imports_no_verb():
    """Help is there at once: neither a verb's file nor anyio is imported for it."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "fdpass", "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "fdpass._cli" in imported
    assert not imported & {"anyio", "asyncio", "fdpass._proc", *(f"fdpass._cli.{verb}" for verb in VERBS)}
    for verb in VERBS:
        assert f"\n  {verb} " in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_examples(verb):
    """Each verb says what it does, and shows it; its line in the main help is there too."""
    done = run(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: fdpass {verb} [OPTIONS]" in done.stdout
    assert f"  fdpass {verb}" in done.stdout.partition("Examples:")[2]


def test_version_is_printed():
    """The version is the package's."""
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"fdpass {fdpass.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["juggle"],
        ["demo", "--type", "raw"],
        ["demo", "a", "b"],
        ["send", "/tmp/s"],
        ["send", "/tmp/s", "x", "--mode", "x"],
        ["send", "/tmp/s", "x", "--wait", "-1"],
        ["send", "/tmp/s", "x", "--message", "m" * 32769],
        ["send", "/tmp/s", *["x"] * 254],
        ["recv"],
        ["recv", "/tmp/s", "--timeout", "nan"],
        ["recv", "/tmp/s", "--stdin"],
        ["grab", "1"],
        ["grab", "0", "1"],
        ["grab", "1", "-1"],
        ["grab", "1", "1", "--stdin"],
        ["inspect", "init"],
    ],
    ids=lambda arguments: " ".join(arguments)[:30],
)
def test_a_wrong_usage_ends_with_exit_code_2(arguments):
    """What cannot be meant is exit code 2, with the usage, and nothing done."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: fdpass" in done.stderr
    assert "Error: " in done.stderr


def test_a_closed_standard_output_ends_with_exit_code_1():
    """A reader that leaves early (`| head`) is no reason for a complaint."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "fdpass", "inspect", str(os.getpid())],
        stdout=writing, stderr=subprocess.PIPE, timeout=60,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_an_interrupt_ends_with_exit_code_130(tmp_path):
    """Ctrl-C: exit code 130, not a word, and no child process is left over."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(
        [sys.executable, "-m", "fdpass", "demo", str(fifo)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as command:
        with open(fifo, "wb", buffering=0):  # returns once the child has opened it; then nothing is written
            command.send_signal(signal.SIGINT)
            assert command.wait(60) == 130
        assert command.stderr.read() == b""


def test_without_a_terminal_the_output_has_no_colour(tmp_path):
    """Where the output is no terminal there are no escape sequences."""
    assert "\x1b" not in run("demo").stdout
