"""The command ``fdpass``: help, version, usage errors, and interruptions."""

import os
import signal
import subprocess
import sys

import pytest

import fdpass

VERBS = ["demo", "send", "recv", "grab", "inspect", "keep"]


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "fdpass", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def test_help_imports_no_verb():
    """So it is fast: it imports neither the files of the verbs nor anyio."""
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
def test_the_help_of_each_verb_has_examples(verb):
    done = run(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: fdpass {verb} [OPTIONS]" in done.stdout
    assert f"  fdpass {verb}" in done.stdout.partition("Examples:")[2]


def test_version_is_that_of_the_package():
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
def test_a_wrong_argument_is_a_usage_error(arguments):
    """The exit code is 2, and standard error has the usage."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: fdpass" in done.stderr
    assert "Error: " in done.stderr


def test_a_closed_pipe_as_standard_output_is_silent():
    """A reader such as `head` closes the pipe early."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "fdpass", "inspect", str(os.getpid())],
        stdout=writing, stderr=subprocess.PIPE, timeout=60,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_ctrl_c_ends_the_command_by_the_signal_silently_and_leaves_no_child(tmp_path):
    """A shell shows 130, and stops the loop that runs the command."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(
        [sys.executable, "-m", "fdpass", "demo", str(fifo)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as command:
        with open(fifo, "wb", buffering=0):  # returns once the child has opened it; then nothing is written
            command.send_signal(signal.SIGINT)
            assert command.wait(60) == -signal.SIGINT
        assert command.stderr.read() == b""


INTERRUPTING = """
import importlib.abc, os, signal, sys

class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
"""


@pytest.mark.parametrize("module", ["fdpass._activation", "fdpass.errors", "click", "fdpass._cli.recv"])
def test_ctrl_c_while_the_command_starts_has_no_traceback(tmp_path, module):
    """Python imports for a tenth of a second before the command runs."""
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTING)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = run("recv", tmp_path / "s", env={**os.environ, "PYTHONPATH": path, "INTERRUPT_AT": module})
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_a_program_that_imports_fdpass_keeps_its_handler_of_ctrl_c():
    code = "import fdpass._cli, signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["send", "--help"], ["inspect", str(os.getpid())], ["demo"]],
    ids=["--help", "--version", "send --help", "inspect PID", "demo"],
)
@pytest.mark.parametrize(
    ("redirection", "reason"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
def test_a_standard_output_that_cannot_be_written_is_an_error_of_one_sentence(arguments, redirection, reason):
    """It is full, or closed."""
    shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "fdpass", *arguments]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=60)
    verb = f"fdpass {arguments[0]}" if not arguments[0].startswith("--") else "fdpass"
    assert (done.returncode, done.stderr) == (1, f"{verb}: cannot write to standard output: {reason}\n")


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_a_standard_error_that_cannot_be_written_changes_no_exit_code(redirection):
    shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "fdpass", "juggle"]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_full_pipe_that_does_not_block_is_waited_for():
    """O_NONBLOCK can come from another process that holds the pipe."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    filled = 0
    with pytest.raises(BlockingIOError):
        while True:
            filled += os.write(writing, b"x" * 4096)
    with subprocess.Popen(
        [sys.executable, "-m", "fdpass", "--version"], stdout=writing, stderr=subprocess.PIPE
    ) as command:
        os.close(writing)
        with open(reading, "rb") as pipe:
            assert pipe.read(filled) == b"x" * filled
            assert pipe.read() == f"fdpass {fdpass.__version__}\n".encode()
        assert (command.wait(60), command.stderr.read()) == (0, b"")


LOCALES = {
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}


@pytest.mark.parametrize("locale", LOCALES)
def test_characters_that_the_encoding_lacks_are_escaped(tmp_path, locale):
    """In output, in errors of fdpass, and in usage errors of click."""
    path = tmp_path / "to→"
    path.write_text("text\n")
    environment = {**os.environ, **LOCALES[locale]}
    shown = run("demo", path, env=environment)
    missing = run("send", tmp_path / "s", tmp_path / "no→", env=environment)
    wrong = run("no→", env=environment)
    arrow = "\\udce2\\udc86\\udc92" if locale == "C" else "\\u2192"
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"opens {tmp_path}/to{arrow} as" in shown.stdout
    assert (missing.returncode, missing.stderr) == (
        1,
        f"fdpass send: cannot open {tmp_path}/no{arrow}: No such file or directory\n",
    )
    assert wrong.returncode == 2
    assert f"No such command 'no{arrow}'" in wrong.stderr


def test_output_without_a_terminal_has_no_escape_sequences(tmp_path):
    assert "\x1b" not in run("demo").stdout


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("srve", "did you mean serve?"),
        ("run", "did you mean serve?"),
        ("shop.main:app", "to serve this application, use fdpass serve shop.main:app"),
        (
            "restart",
            "use reload for new code of the application, or upgrade for a new fdpass or Python",
        ),
    ],
)
def test_a_word_that_is_no_command_is_answered_with_the_right_one(word, meant):
    wrong = run(word, "--workers", "2")
    assert wrong.returncode == 2
    assert wrong.stderr.endswith(f"Error: no such command '{word}': {meant}\n")
