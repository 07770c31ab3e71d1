"""The public names of fdpass: `__all__`, `dir` and the documentation agree, and so do the public modules."""

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
    """The names of all modules after `fdpass.`; the modules within `serve` have rules of their own."""
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name and not name.startswith("serve."):
            yield name


def test_docs_all_and_dir_agree():
    """Also for the names that are loaded at their first use."""
    assert {name for name in HEADINGS if "." not in name} | ERRORS == set(fdpass.__all__) == set(dir(fdpass))


def test_dir_shows_names_that_are_not_loaded_yet():
    """And dir() itself does not load them."""
    program = "import sys, fdpass; assert 'AsyncChannel' in dir(fdpass); assert 'anyio' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("face", [aio, errors, testing], ids=lambda module: module.__name__)
def test_dir_and_all_of_the_other_public_modules_agree(face):
    """Every name without an underscore is public."""
    assert {name for name in dir(face) if not name.startswith("_")} == set(face.__all__)


def test_a_module_without_underscore_is_documented():
    """And the documentation names no module with an underscore."""
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    documented = (set(re.findall(r"\bfdpass\.(\w+(?:\.\w+)*)", pages)) | HEADINGS) & set(modules())
    public = {name for name in modules() if not any(part.startswith("_") for part in name.split("."))}
    assert public == documented


@pytest.mark.parametrize("name", NAMED)
def test_a_public_name_belongs_to_the_module_fdpass(name):
    """Tracebacks show fdpass.Closed, pickles name it so, and its annotations can be evaluated."""
    public = getattr(fdpass, name)
    assert public.__module__ == "fdpass"
    assert pickle.loads(pickle.dumps(public)) is public
    typing.get_type_hints(public)


@pytest.mark.skipif(sys.version_info[:2] != (3, 12), reason="the module for subinterpreters has no lasting name")
def test_the_library_works_in_a_subinterpreter():
    """With a GIL of its own, as CPython 3.12 has them; ctypes, for instance, cannot be imported there."""
    import _xxsubinterpreters as interpreters

    program = (
        "import fdpass\n"
        "left, right = fdpass.Channel.pair()\n"
        "with left, right, fdpass.share(b'hello') as memory:\n"
        "    left.send(b'x', [memory])\n"
        "    with right.recv() as message: assert bytes(fdpass.view(message.fds[0])) == b'hello'\n"
        "try: fdpass.grab(1, 0)\n"
        "except fdpass.CallFailed as error: assert 'ctypes' in str(error)\n"
    )
    number = interpreters.create()
    try:
        interpreters.run_string(number, program)
    finally:
        interpreters.destroy(number)


def test_the_import_does_not_load_ctypes():
    """It takes time, and no subinterpreter can load it."""
    program = "import fdpass, sys; sys.exit('ctypes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
