"""Every snippet of the README and of docs/ runs, and prints what the document shows.

A ``python`` block runs as a program, in a folder of its own. If it has ``# -> text`` comments, it must print these
texts, line by line. A block that starts with a file name as a comment (``# worker.py``) does not run: it is that
file, for later blocks of the same document. A ``python pytest`` block is a test file that must pass. In a
``console`` block bash runs the lines that start with ``$``, and must print all other lines; ``...`` stands for any
text. Blocks in other languages (``sh``: set-up) do not run.
"""

import doctest
import os
import re
import shutil
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
def test_a_python_snippet_prints_what_its_comments_show(snippet, tmp_path):
    """It exits with 0 and without a warning, for instance about a forgotten descriptor."""
    program = tmp_path / "snippet.py"
    program.write_text(snippet.text, encoding="utf-8")
    done = run([sys.executable, program.name], snippet, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    if promised := [line.rstrip() for line in PRINTS.findall(snippet.text)]:
        assert done.stdout.splitlines() == promised


@pytest.mark.parametrize("snippet", snippets("python pytest"))
def test_a_pytest_snippet_passes(snippet, tmp_path):
    (tmp_path / "test_snippet.py").write_text(snippet.text, encoding="utf-8")
    done = run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "fdpass.testing.plugin"],
        snippet,
        tmp_path,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("snippet", snippets("console"))
def test_a_console_snippet_prints_what_is_shown(snippet, tmp_path):
    """Every command succeeds."""
    lines = snippet.text.splitlines(keepends=True)
    commands = "".join(line[2:] for line in lines if line.startswith("$ "))
    if "$ curl " in snippet.text and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    promised = "".join(line for line in lines if not line.startswith("$ "))
    done = run(["bash", "-euc", f"{commands}\nwait"], snippet, tmp_path)
    assert done.returncode == 0, done.stderr
    assert doctest.OutputChecker().check_output(promised, done.stdout, doctest.ELLIPSIS), done.stdout


def test_there_are_snippets_in_each_language():
    """A document that moved, or a fence that is misspelled, must not silence these tests."""
    for language in ("python", "python pytest", "console"):
        assert snippets(language), language


def test_no_snippet_has_an_unknown_language():
    """A snippet with a misspelled fence would never run."""
    known = {"python", "python pytest", "console", "sh", "text"}
    found = {snippet.language: snippet.where for document in DOCUMENTS for snippet in blocks(document)}
    assert set(found) <= known, found
