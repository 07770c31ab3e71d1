"""CONTRIBUTING.md, the glossary and the decision records agree with the code, and there is one list of checks.

Each place that CONTRIBUTING.md names is in the code. `.ci/run`, nox and the commit hooks run the same commands.
"""

import ast
import re
from pathlib import Path

import pytest

from fdpass.serve.shared import messages

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "fdpass"
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
RECORDS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
RUN = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
STEP = (ROOT / ".ci" / "step").read_text(encoding="utf-8")
PLACES = sorted(set(re.findall(r"`([\w/]+\.py):([\w.]+)`", CONTRIBUTING)))
MOST_LINES = 40  # of a decision record


def names(body, prefix=""):
    """Every class and function of a file, methods with their class."""
    found = set()
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(prefix + node.name)
        if isinstance(node, ast.ClassDef):
            found |= names(node.body, f"{prefix}{node.name}.")
    return found


def verbs(pattern, text):
    return re.findall(pattern, text, re.MULTILINE)


@pytest.mark.parametrize(("file", "name"), PLACES, ids=[f"{file}:{name}" for file, name in PLACES])
def test_each_place_that_contributing_names_is_in_the_code(file, name):
    """A reader finds each step of "the way of one connection" and of the others."""
    tree = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
    assert name in names(tree.body)


def test_every_room_is_on_the_map():
    """Each folder of the server has a row, and each row is a folder or a file."""
    rows = set(re.findall(r"^\| `([\w/.]+)` \|", CONTRIBUTING, re.MULTILINE))
    rooms = {row for row in rows if not row.startswith("tests/")}
    packages = {path.parent.relative_to(SOURCE) for path in SOURCE.rglob("__init__.py")}
    folders = {f"{package.as_posix()}/" for package in packages} - {"./"}
    assert folders - {"serve/"} == {room for room in rooms if room.endswith("/")}
    assert all((SOURCE / room).exists() for room in rooms)


def test_every_folder_of_tests_is_described():
    """CONTRIBUTING.md has a row for each."""
    described = set(re.findall(r"^\| `(tests/\w+)` \|", CONTRIBUTING, re.MULTILINE))
    assert described == {
        f"tests/{path.name}" for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))
    }


def test_the_picture_names_existing_rooms_and_messages():
    """Each room in the picture of the processes is a folder, and each word in capitals a message."""
    picture = (ROOT / "docs" / "processes.svg").read_text(encoding="utf-8")
    rooms = set(re.findall(r">([a-z/]+/)<", picture))
    assert rooms
    assert all((SOURCE / "serve" / room).is_dir() for room in rooms)
    words = set(re.findall(r"\b[A-Z]{5,}\b", picture))
    assert words
    assert all(isinstance(getattr(messages, word, None), bytes) for word in words), words


def test_each_word_is_explained_once_and_in_one_sentence():
    """The glossary has one row for each word, and one sentence in it."""
    rows = [row for row in re.findall(r"^\| (.*?) \| (.*) \|$", GLOSSARY, re.MULTILINE) if row[0] != "word"]
    words = [word for word, _ in rows]
    assert len(words) == len(set(words))
    for word, meaning in rows:
        assert meaning.endswith("."), word
        assert ". " not in meaning, word


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_a_decision_record_is_short_and_complete(record):
    """It has its four parts, fits on a page, and is in the list."""
    text = record.read_text(encoding="utf-8")
    parts = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert parts == ["Context", "Decision", "Rejected", "Consequences"]
    assert len(text.splitlines()) <= MOST_LINES
    assert f"({record.name})" in (record.parent / "README.md").read_text(encoding="utf-8")


def test_ci_nox_and_hooks_run_the_same_checks():
    """`.ci/run` and nox run all steps of `.ci/step`; the hooks run its commands."""
    known = verbs(r"^ {4}(\w+)\)$", STEP)
    (called,) = verbs(r"^\.ci/step (.*)$", RUN)
    assert called.split() == [verb for verb in known if verb != "soak"]
    sessions = verbs(r"^@nox.session\ndef (\w+)", (ROOT / "noxfile.py").read_text(encoding="utf-8"))
    assert sorted(sessions) == sorted(known)
    hooks = verbs(r"^ +entry: (.*)$", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    commands = verbs(r"^ {8}(.*\S)$", STEP)
    assert hooks
    assert set(hooks) <= set(commands)


def test_the_patterns_above_find_places_and_records():
    """A pattern that finds nothing would silence the tests above."""
    assert len(PLACES) > 60
    assert RECORDS
