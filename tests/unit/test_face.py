"""What users see of fdpass: the documented names, wherever they look, and no module that docs do not name."""

import pickle
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import fdpass
from fdpass import aio, errors, testing

ROOT = Path(fdpass.__file__).parent
DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = (DOCS / "reference.md").read_text(encoding="utf-8")
HEADINGS = set(re.findall(r"^### `([\w.]+)(?:\(.*\))?`$", REFERENCE, re.MULTILINE))
ERRORS = set(re.findall(r"^\| `([A-Z]\w+)` \|", (DOCS / "errors.md").read_text(encoding="utf-8"), re.MULTILINE))
NAMED = [name for name in fdpass.__all__ if hasattr(getattr(fdpass, name), "__module__")]


def modules():
    """All of fdpass, by the names after `fdpass.`; what is within `serve` has rules of its own."""
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name and not name.startswith("serve."):
            yield name


def test_docs_all_and_dir_agree():
    """Those that are loaded when they are first asked for included."""
    assert {name for name in HEADINGS if "." not in name} | ERRORS == set(fdpass.__all__) == set(dir(fdpass))


def test_dir_shows_what_is_not_loaded_yet():
    """And loads nothing for it."""
    program = "import sys, fdpass; assert 'AsyncChannel' in dir(fdpass); assert 'anyio' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("face", [aio, errors, testing], ids=lambda module: module.__name__)
def test_dir_of_the_other_faces(face):
    """What has no underscore is public."""
    assert {name for name in dir(face) if not name.startswith("_")} == set(face.__all__)


def test_a_module_without_underscore_is_a_documented_one():
    """And the reverse: docs send nobody to a module that has one."""
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    documented = (set(re.findall(r"\bfdpass\.(\w+(?:\.\w+)*)", pages)) | HEADINGS) & set(modules())
    public = {name for name in modules() if not any(part.startswith("_") for part in name.split("."))}
    assert public == documented


@pytest.mark.parametrize("name", NAMED)
def test_a_public_thing_lives_in_the_face(name):
    """Tracebacks say fdpass.Closed; pickles find it there; its annotations can be looked up from there."""
    thing = getattr(fdpass, name)
    assert thing.__module__ == "fdpass"
    assert pickle.loads(pickle.dumps(thing)) is thing
    typing.get_type_hints(thing)
