"""``fdpass keep``: wrong arguments are usage errors, before anything is opened or started."""

import pytest
from click.testing import CliRunner

from fdpass._cli import main
from fdpass._cli.keep_commands import _title


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run"], "Missing argument"),
        (["--restart", "maybe", "--", "true"], "--restart"),
        (["--store-max", "-1", "--", "true"], "--store-max"),
        (["--store-user", "no-such-user", "--", "true"], "there is no user"),
        (["--store-user", "9" * 5000, "--", "true"], "there is no user"),
        (["--stop-timeout", "x", "--", "true"], "is not a number of seconds"),
        (["--control", "x", "list"], "Put the options after list"),
        (["take", "x", "--stdin"], "--stdin needs a COMMAND"),
    ],
    # others are found by `run`, which makes this process a subreaper: they are in tests/process/keep
    ids=lambda value: " ".join(value)[:20] if isinstance(value, list) else None,
)
def test_a_wrong_argument_is_a_usage_error(tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    done = CliRunner().invoke(main, ["keep", *words])
    assert done.exit_code == 2
    assert sentence in done.output
    assert list(tmp_path.iterdir()) == []


def test_the_command_of_the_program_is_shown_as_a_shell_reads_it():
    program = {"command": ["sh", "-c", "exit 1"], "pid": None, "state": "ended", "status": "", "starts": 1}
    shown = _title({"program": program, "keep": {"store_max": 0}, "stored": []})
    assert shown.startswith("sh -c 'exit 1', ended; 1 start; ")
