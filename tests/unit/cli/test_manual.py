"""The man page and the completions are made from the command line itself."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from fdpass._cli import main
from fdpass._cli.manual import page

ROOT = Path(__file__).parents[3]
FILE = ROOT / "docs" / "fdpass.1"


def test_the_man_page_is_that_of_the_present_commands():
    assert FILE.read_text() == page(), "run: python -m fdpass._cli.manual > docs/fdpass.1"


def test_the_man_page_is_a_part_of_the_wheel():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["shared-data"] == {"docs/fdpass.1": "share/man/man1/fdpass.1"}


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_finds_no_fault_in_the_man_page():
    done = subprocess.run(["groff", "-ww", "-man", "-Tutf8", FILE], capture_output=True, timeout=60, check=True)
    assert done.stderr == b""
    assert "--graceful-timeout" in re.sub(".\b", "", done.stdout.decode())  # bold is printed twice


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell):
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_FDPASS_COMPLETE={shell}_complete" in result.output


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [(["fdpass", "rel"], ["reload"]), (["fdpass", "serve", "--balance", ""], ["least", "round-robin", "hash"])],
)
def test_bash_completes_verbs_and_values(tmp_path, words, expected):
    """As bash does at Tab: it calls the function with the words in COMP_WORDS."""
    (tmp_path / "fdpass").write_text(f'#!/bin/sh\nexec {sys.executable} -m fdpass "$@"\n')
    (tmp_path / "fdpass").chmod(0o755)
    script = CliRunner().invoke(main, ["completion", "bash"]).output
    program = f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}\n"
    program += '_fdpass_completion fdpass; printf "%s\\n" "${COMPREPLY[@]}"\n'
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{program}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PATH": path},
    )
    assert done.stdout.split() == expected
