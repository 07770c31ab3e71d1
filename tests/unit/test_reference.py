"""docs/reference.md and docs/errors.md name everything that is public, as it is, and nothing else."""

import importlib
import inspect
import os
import re
from pathlib import Path

import click
import pytest

import fdpass
from fdpass import aio, errors, testing
from fdpass.cli import main

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = (DOCS / "reference.md").read_text(encoding="utf-8")
ERRORS = (DOCS / "errors.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^### `([\w.]+)(\(.*\))?`$", REFERENCE, re.MULTILINE)
COMMANDS = re.findall(r"^### `fdpass (\w+) .*`$", REFERENCE, re.MULTILINE)
ROWS = re.findall(r"^\| `([A-Z]\w+)` \| (.*?) ?\|", ERRORS, re.MULTILINE)
PAGES = sorted([*DOCS.glob("*.md"), DOCS.parent / "README.md"])
EXCEPTIONS = {
    name
    for name, thing in vars(errors).items()
    if isinstance(thing, type) and issubclass(thing, errors.FdpassError)
}


def section(heading):
    """What stands under a heading that begins so."""
    return re.search(rf"^### `{re.escape(heading)}.*?(?=^##|\Z)", REFERENCE, re.MULTILINE | re.DOTALL)[0]


def thing(dotted):
    """What a heading names: in fdpass, unless it names the module."""
    *modules, name = dotted.split(".")
    return getattr(importlib.import_module(".".join(["fdpass", *modules])), name)


def parameters(function):
    """Names, kinds and defaults, without self and types."""
    found = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default) for each in found if each.name != "self"]


def written(signature):
    """The same of a signature as it stands in the text."""
    space = {"os": os}
    exec(f"def function{signature}: pass", space)
    return parameters(space["function"])


def members(kind):
    """The public names of a class, those of built-in bases left out."""
    own = (base for base in kind.__mro__ if base.__module__.startswith("fdpass"))
    return {name for base in own for name in vars(base) if not name.startswith("_")}


def listed(heading):
    """Name and signature of each member that stands in the list under a heading."""
    return re.findall(r"^- `(\w+)(\(.*?\))?`", section(heading), re.MULTILINE)


CLASSES = [name for name in fdpass.__all__ if isinstance(thing(name), type) and name not in EXCEPTIONS]
SIGNATURES = [(name, signature) for name, signature in HEADINGS if signature]


def test_every_name_stands_there_and_no_other():
    """The headings are `fdpass.__all__` without the errors, and what aio and testing have beyond it."""
    expected = set(fdpass.__all__) - EXCEPTIONS
    expected |= {f"aio.{name}" for name in aio.__all__ if getattr(aio, name) is not getattr(fdpass, name, None)}
    expected |= {f"testing.{name}" for name in testing.__all__}
    assert sorted(name for name, _ in HEADINGS) == sorted(expected)


def test_every_exception_has_a_row_and_no_other():
    """Each error has its cause and remedy, and each can be had from `fdpass` itself."""
    assert sorted(name for name, _ in ROWS) == sorted(EXCEPTIONS)
    assert set(fdpass.__all__) >= EXCEPTIONS


@pytest.mark.parametrize(("name", "also"), ROWS, ids=[name for name, _ in ROWS])
def test_exception_is_what_its_row_says(name, also):
    """What stands under "also a" are bases of the error, so an ``except`` that is written by it works."""
    for base in re.findall(r"`(\w+)`", also):
        kind = getattr(errors, base, None) or getattr(__import__("builtins"), base)
        assert issubclass(getattr(errors, name), kind), base


def test_every_reason_of_a_loss_has_a_row():
    """`FdsLost.reason` is one of the documented words."""
    assert sorted(re.findall(r'^\| `"([\w ]+)"`', ERRORS, re.MULTILINE)) == sorted(errors.LossReason.__args__)


@pytest.mark.parametrize(("name", "signature"), SIGNATURES, ids=[name for name, _ in SIGNATURES])
def test_signature_is_the_true_one(name, signature):
    """Parameters have these names, kinds and defaults."""
    assert written(signature) == parameters(thing(name))


@pytest.mark.parametrize("name", CLASSES)
def test_members_are_the_true_ones(name):
    """Each class lists its public members, and no others, with their parameters."""
    kind = thing(name)
    found = listed(name)
    constructor = {parameter for parameter, _, _ in parameters(kind)}
    names = {member for member, _ in found}
    assert members(kind) <= names, members(kind) - names
    assert names <= members(kind) | constructor, names - members(kind) - constructor
    for member, signature in found:
        if signature and (name, member) != ("Fd", "open"):  # two methods in one name
            assert written(signature) == parameters(getattr(kind, member)), member


def test_every_command_with_every_option():
    """Each command has a heading, and each of its options stands below."""
    context = click.Context(main)
    assert sorted(COMMANDS) == sorted(main.list_commands(context))
    for name in COMMANDS:
        options = {
            option
            for parameter in main.get_command(context, name).params
            if isinstance(parameter, click.Option)
            for option in parameter.opts
        }
        assert options == set(re.findall(r"`(--[\w-]+)`", section(f"fdpass {name} "))), name


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    """Files that are linked to exist, and so do the headings."""
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        found = document.parent / path if path else document
        assert found.exists(), target
        headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {slug(heading) for heading in headings}
        assert not anchor or anchor in anchors, target


def test_files_that_are_named_exist():
    """How it works says where in the code each thing is; those files are there."""
    text = (DOCS / "how-it-works.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+\.py)`", text))
    assert named
    for name in named:
        assert (DOCS.parent / "src" / "fdpass" / name).exists() or (DOCS.parent / name).exists(), name


def slug(heading):
    """The anchor that a heading gets: lower case, without punctuation, with dashes for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
