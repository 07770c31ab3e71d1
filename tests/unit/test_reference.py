"""docs/reference.md and docs/errors.md describe exactly the public names, with their true signatures.

The lists and pictures of docs/how-it-works.md agree with the code, too.
"""

import importlib
import inspect
import os
import re
from pathlib import Path

import click
import pytest

import fdpass
from fdpass import aio, errors, serve, testing
from fdpass._cli import main
from fdpass._losses import LossReason
from fdpass.serve.dispatcher.pool.worker_handle import TRANSITIONS
from fdpass.serve.dispatcher.recovery import Action
from fdpass.serve.shared import messages, slots
from fdpass.serve.shared.config import SETTINGS
from fdpass.serve.shared.events import Event
from fdpass.serve.shared.setting import flag

from ._contract_tables import MADE, described, described_members
from ._rooms_table import ROOMS, tables
from ._settings_table import table

DOCS = Path(__file__).parents[2] / "docs"
SOURCE = DOCS.parent / "src" / "fdpass"
REFERENCE = (DOCS / "reference.md").read_text(encoding="utf-8")
ERRORS = (DOCS / "errors.md").read_text(encoding="utf-8")
REASONS = (DOCS / "how-it-works.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^### `([\w.]+)(\(.*\))?`$", REFERENCE, re.MULTILINE)
COMMANDS = {  # the words of each command, and its heading
    re.match(r"[a-z]+( [a-z]+)*", usage)[0]: f"fdpass {usage}`"
    for usage in re.findall(r"^### `fdpass (.*)`$", REFERENCE, re.MULTILINE)
}
ROWS = re.findall(r"^\| `([A-Z]\w+)` \| (.*?) ?\|", ERRORS, re.MULTILINE)
PAGES = sorted([*DOCS.glob("*.md"), DOCS.parent / "README.md"])
EXCEPTIONS = {
    name
    for name, thing in vars(errors).items()
    if isinstance(thing, type) and issubclass(thing, errors.FdpassError)
}


def section(heading):
    """The text under the heading that begins so."""
    return re.search(rf"^### `{re.escape(heading)}.*?(?=^##|\Z)", REFERENCE, re.MULTILINE | re.DOTALL)[0]


def thing(dotted):
    """The object that a heading names, in fdpass or in the module that the heading names."""
    *modules, name = dotted.split(".")
    return getattr(importlib.import_module(".".join(["fdpass", *modules])), name)


def parameters(function):
    """Names, kinds and defaults of a function's parameters, without self and types."""
    found = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default) for each in found if each.name != "self"]


def written(signature):
    """The same, of a signature in the text."""
    space = {"os": os}
    exec(f"def function{signature}: pass", space)
    return parameters(space["function"])


def members(kind):
    """The public names of a class, without those of built-in bases."""
    own = (base for base in kind.__mro__ if base.__module__.startswith("fdpass"))
    return {name for base in own for name in vars(base) if not name.startswith("_")}


def attributes(kind):
    """The attributes that the docstring of a class lists: those of instances are not in the class."""
    found = re.search(r"^Attributes:\n((?: {4}.*\n?)+)", inspect.getdoc(kind), re.MULTILINE)
    return set(re.findall(r"^ {4}(\w+):", found[1], re.MULTILINE)) if found else set()


def listed(heading):
    """Name and signature of each member in the list, or the table, under a heading."""
    return re.findall(r"^(?:-|\|) `(\w+)(\(.*?\))?`", section(heading), re.MULTILINE)


def commands(command, context, *words):
    """Each command that is no group; the key is its words."""
    if not isinstance(command, click.Group):
        return {" ".join(words): command}
    found = {}
    for name in command.list_commands(context):
        found |= commands(command.get_command(context, name), context, *words, name)
    return found


CLASSES = [name for name in fdpass.__all__ if isinstance(thing(name), type) and name not in EXCEPTIONS]
CLASSES += [f"serve.{name}" for name in serve.__all__ if isinstance(getattr(serve, name), type)]
SIGNATURES = [(name, signature) for name, signature in HEADINGS if signature]


def test_the_reference_has_each_public_name_and_no_other():
    """The headings: `fdpass.__all__` without the errors, and the other names of aio, serve and testing."""
    expected = set(fdpass.__all__) - EXCEPTIONS
    expected |= {f"aio.{name}" for name in aio.__all__ if getattr(aio, name) is not getattr(fdpass, name, None)}
    expected |= {f"{module.__name__[7:]}.{name}" for module in (serve, testing) for name in module.__all__}
    assert sorted(name for name, _ in HEADINGS) == sorted(expected)


def test_each_exception_has_a_row_and_no_other_name_has():
    """The row has its cause and remedy; `fdpass` itself has the exception."""
    assert sorted(name for name, _ in ROWS) == sorted(EXCEPTIONS)
    assert set(fdpass.__all__) >= EXCEPTIONS


@pytest.mark.parametrize(("name", "also"), ROWS, ids=[name for name, _ in ROWS])
def test_an_exception_has_the_bases_that_its_row_names(name, also):
    """The names under "also a" are bases of the exception, so ``except`` with one of them catches it."""
    for base in re.findall(r"`(\w+)`", also):
        kind = getattr(errors, base, None) or getattr(__import__("builtins"), base)
        assert issubclass(getattr(errors, name), kind), base


def test_each_reason_of_fds_lost_has_a_row():
    """The rows are exactly the values of `FdsLost.reason`."""
    assert sorted(re.findall(r'^\| `"([\w ]+)"`', ERRORS, re.MULTILINE)) == sorted(LossReason.__args__)


@pytest.mark.parametrize(("name", "signature"), SIGNATURES, ids=[name for name, _ in SIGNATURES])
def test_a_documented_signature_is_that_of_the_code(name, signature):
    """Parameters have these names, kinds and defaults."""
    assert written(signature) == parameters(thing(name))


@pytest.mark.parametrize("name", CLASSES)
def test_the_documented_members_of_a_class_are_those_of_the_code(name):
    """Each class lists exactly its public members, with their parameters."""
    kind = thing(name)
    found = listed(name)
    constructor = {parameter for parameter, _, _ in parameters(kind)}
    names = {member for member, _ in found}
    expected = members(kind) | attributes(kind)
    assert expected <= names, expected - names
    assert names <= expected | constructor, names - expected - constructor
    for member, signature in found:
        if signature and (name, member) != ("Fd", "open"):  # two methods in one name
            assert written(signature) == parameters(getattr(kind, member)), member


def test_the_table_of_settings_is_made_from_the_settings():
    """It has each setting in order, with its default, its values and its sentence."""
    found = re.search(r"^\| setting \|.*?(?=^[^|])", section("serve.Config"), re.MULTILINE | re.DOTALL)[0]
    if found.rstrip("\n") + "\n" != table():
        pytest.fail(
            "docs/reference.md is not what the settings say; its table has to be:\n\n" + table(), pytrace=False
        )


def test_each_command_is_documented_with_each_option():
    """Each command has a heading with its options; the options of `serve` have a table."""
    settings = {flag(name) for name in SETTINGS}
    found = commands(main, click.Context(main))
    assert sorted(COMMANDS) == sorted(found)
    for name, command in found.items():
        options = {
            option
            for parameter in command.params
            if isinstance(parameter, click.Option) and not parameter.hidden
            for option in parameter.opts
            if option.startswith("--")
        }
        elsewhere = settings if name == "serve" else set()
        assert options - elsewhere == set(re.findall(r"`(--[\w-]+)`", section(COMMANDS[name]))) - elsewhere, name


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_links_lead_to_existing_files_and_headings(document):
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        found = document.parent / path if path else document
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, target


def test_files_that_how_it_works_names_exist():
    named = set(re.findall(r"`([\w/]+\.py)`", REASONS))
    assert named
    for name in named:
        assert (SOURCE / name).exists() or (DOCS.parent / name).exists(), name


def test_the_rooms_of_the_server_are_listed_as_their_files_say():
    """The table is made from the first line of each file; if it differs, the failure prints what to paste."""
    made = tables()
    assert made in REASONS, f"docs/how-it-works.md, 'The parts of the server':\n{made}"
    parts = ("serve", "_dashboard", "_supervision", "_keep")
    rooms = [path for room in parts for path in (SOURCE / room).rglob("*.py")]
    assert {path.parent.relative_to(SOURCE).as_posix() for path in rooms} == set(ROOMS)


def test_the_picture_of_a_workers_states_is_its_table():
    """The table is `TRANSITIONS`."""
    (picture,) = re.findall(r"^```text\n( starting.*?)^```", REASONS, re.MULTILINE | re.DOTALL)
    drawn = {}
    for line in picture.splitlines():
        state, _, to = line.partition("-->")
        drawn[state.strip()] = set(filter(None, re.split(r",\s*", to.strip())))
    assert drawn == {state.value: {other.value for other in to} for state, to in TRANSITIONS.items()}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_what_dispatcher_and_worker_agreed_on_is_listed_as_the_code_says(make):
    """Where this fails, paste what is printed."""
    made = make()
    if made not in REASONS:
        pytest.fail("docs/how-it-works.md is not what the code says; it has to have:\n\n" + made, pytrace=False)


def test_each_message_has_a_description():
    """A message without one would not be in the table."""
    kinds = {name for name, byte in vars(messages).items() if isinstance(byte, bytes)}
    assert {name for name, _, _ in described(messages)} == kinds


def test_each_word_of_a_slot_has_a_description():
    """The described words fill a slot: none lacks a description, and no two overlap."""
    places = [place for _, place, _ in described(slots)]
    assert places == [*range(11), slots.STATES, slots.GIVEN]
    assert slots.STATES + 2 * slots.STATE_WORDS <= slots.GIVEN < slots.WORDS


def test_each_flag_and_each_action_has_a_description():
    """So that their tables are complete."""
    for kind in (slots.Flag, Action):
        assert [name for name, _ in described_members(kind)] == list(kind.__members__)


def slug(heading):
    """The anchor that a heading gets: lower case, without punctuation, with dashes for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_events_of_the_log_are_listed_as_the_code_says():
    """Where this fails, paste what is printed."""
    made = "".join(f"| `{event.name.lower()}` | {event.value} |\n" for event in Event)
    page = (DOCS / "watching.md").read_text(encoding="utf-8")
    assert f"| event | meaning |\n|---|---|\n{made}\n" in page, made


def test_each_event_is_logged_somewhere():
    """An event that no line has would be looked for in vain."""
    text = "".join(path.read_text(encoding="utf-8") for path in (SOURCE / "serve").rglob("*.py"))
    for event in Event:
        assert event is Event.OTHER or text.count(f"Event.{event.name}") >= 1, event
