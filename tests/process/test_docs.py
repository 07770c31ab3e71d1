"""Every snippet of the README and of docs/ does what it says.

A ``python`` block runs as a program of its own, in a folder of its own. Where it has ``# -> text`` comments,
these are what it prints, line by line. A block that begins with a comment of a file name (``# worker.py``) is not
run: it is that file, for the blocks after it in the same document. ``python pytest`` is a test file that must
pass. In a ``console`` block the lines after ``$`` are run by bash, and all other lines are what they print, with
``...`` for what differs each time. Blocks in other languages (``sh``: set-up) are not run.
"""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w.]+\.py)\n")
PRINTS = re.compile(r"# -> ?(.*)$", re.MULTILINE)
LIMIT = 60


class Snippet(NamedTuple):
    where: str
    language: str
    text: str
    files: dict[str, str]


def snippets(language):
    return [
        pytest.param(snippet, id=snippet.where)
        for document in DOCUMENTS
        for snippet in blocks(document)
        if snippet.language == language
    ]


def blocks(document):
    text = document.read_text(encoding="utf-8")
    files = {}
    for match in BLOCK.finditer(text):
        language, code = match.groups()
        name = FILE.match(code) if language == "python" else None
        if name:
            files[name[1]] = code
            continue
        line = text.count("\n", 0, match.start()) + 1
        yield Snippet(f"{document.name}:{line}", language, code, dict(files))


def run(command, snippet, folder):
    for name, code in snippet.files.items():
        (folder / name).write_text(code, encoding="utf-8")
    here = str(Path(sys.executable).parent)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "PATH": f"{here}:{os.environ['PATH']}",
        "PYTHONWARNINGS": "error",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@pytest.mark.parametrize("snippet", snippets("python"))
def test_python_runs_and_prints_what_it_says(snippet, tmp_path):
    """It ends well, complains of nothing (a forgotten descriptor is a complaint), and its comments are true."""
    program = tmp_path / "snippet.py"
    program.write_text(snippet.text, encoding="utf-8")
    done = run([sys.executable, program.name], snippet, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    if promised := [line.rstrip() for line in PRINTS.findall(snippet.text)]:
        assert done.stdout.splitlines() == promised


@pytest.mark.parametrize("snippet", snippets("python pytest"))
def test_test_file_passes(snippet, tmp_path):
    """It is collected, and each of its tests passes."""
    (tmp_path / "test_snippet.py").write_text(snippet.text, encoding="utf-8")
    done = run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "fdpass.testing.plugin"],
        snippet,
        tmp_path,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("snippet", snippets("console"))
def test_console_prints_what_it_says(snippet, tmp_path):
    """Every command succeeds, and the output, in order, is the one that is shown."""
    lines = snippet.text.splitlines(keepends=True)
    commands = "".join(line[2:] for line in lines if line.startswith("$ "))
    promised = "".join(line for line in lines if not line.startswith("$ "))
    done = run(["bash", "-euc", f"{commands}\nwait"], snippet, tmp_path)
    assert done.returncode == 0, done.stderr
    assert doctest.OutputChecker().check_output(promised, done.stdout, doctest.ELLIPSIS), done.stdout


def test_there_are_snippets_of_each_sort():
    """A document that moves, or a fence that is spelled otherwise, does not silence these tests."""
    for language in ("python", "python pytest", "console"):
        assert snippets(language), language


def test_no_block_has_a_language_that_nobody_runs():
    """A misspelled fence would be a snippet that is never tried."""
    known = {"python", "python pytest", "console", "sh", "text"}
    found = {snippet.language: snippet.where for document in DOCUMENTS for snippet in blocks(document)}
    assert set(found) <= known, found
