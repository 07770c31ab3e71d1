"""Who may know whom: the imports of src/fdpass, held against the table of rooms; and the house rules for a file.

When the table is wrong, change it here and in docs together. What stands under ``if TYPE_CHECKING`` is not
counted, for it does not happen; an import within a function is.
"""

from __future__ import annotations

import ast
import graphlib
import tokenize
from pathlib import Path

import pytest

import fdpass

ROOT = Path(fdpass.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MOST_LINES = 330

FACADE = "fdpass"  # `from fdpass import Channel`: the public names
_CORE = {"_ancillary", "_conversation", "_end", "_framing", "_lending", "_message", "_outbox", "_pair"}
_CHANNEL = _CORE | {"errors", "fd", "memory", "peer", "policy"}
PUBLIC = {FACADE, "activation", "aio", "channel", "errors", "fd", "grab", "listening", "memory", "peer", "policy"}

MAY_IMPORT = {
    "errors": set(),
    "fd": {"errors"},
    "_message": {"errors", "fd"},
    "_lending": {"errors", "fd"},
    "_ancillary": {"_lending", "_message", "errors", "fd"},
    "_framing": {"errors"},
    "_pair": {"errors"},
    "_sockets": {"_pair", "errors"},
    "policy": {"errors", "fd"},
    "memory": {"errors", "fd"},
    "peer": {"errors", "fd"},
    "grab": {"errors", "fd"},
    "proc": {"errors", "fd"},
    "activation": {"errors", "fd"},
    "_outbox": {"_ancillary", "_framing", "_lending", "errors", "fd", "memory"},
    "_conversation": {"_ancillary", "_framing", "_message", "_outbox", "errors", "fd", "memory", "peer", "policy"},
    "_end": {"_ancillary", "_conversation", "_pair", "errors", "peer", "policy"},
    "channel": _CHANNEL,
    "listening": {"_pair", "_sockets", "channel", "errors", "fd", "peer"},
    "aio._channel": _CHANNEL,
    "aio._listening": {"_pair", "_sockets", "aio._channel", "errors", "fd", "listening", "peer"},
    "aio": {"aio._channel", "aio._listening"},
    "__main__": {"cli"},
}
"""A module, and what of fdpass it may import. The façade, `cli` and `testing` have rules of their own below."""

_SERVE = """
# pure: tables, sums, words; no descriptor, clock or loop
.accounts:
.balance:
.ledger:
.slots:
.recovery: .slots
.requests:
.messages: errors
.application: errors fdpass
.proxy:
# of both processes
.config: errors .ledger
.reset:
.passed: .reset
.logs:
.process: errors fd
.tls: errors .config
.access: errors fd
# the dispatcher's; serve.dispatcher is where they meet
.loop:
.listener: _sockets activation errors fd
.host: errors fd .config .ledger .slots
.notify: errors
.control: _conversation _sockets channel errors listening peer .loop
.custody: _message errors memory .loop .recovery .reset .slots
.member: _ancillary _conversation _message _pair errors fd memory .ledger .process
.accepting: .accounts .balance .ledger .listener .loop .member
.passing: _ancillary _message errors .accepting .balance .custody .member .messages .recovery
.turning: _message errors .accepting .member .messages
.backoff: .loop
.generation: .config
.owner: fd .generation .member
.pool: errors .backoff .config .generation .ledger .loop .member .messages .owner .process
.upkeep: .config .ledger .loop .member .pool .process
.dispatcher: errors fd memory .accepting .accounts .balance .config .custody .generation .host .ledger .listener
    .loop .member .messages .passing .pool .setup .slots .turning .upkeep
.operations: errors fdpass .config .control .dispatcher .host .ledger .listener .logs .loop .member .notify
    .process .recovery .tls
.server: activation errors fdpass .config .control .dispatcher .host .listener .logs .loop .notify .operations
    .tls
# a worker's; `python -m fdpass.serve.worker` runs it, and nobody imports it
.setup: _message fd memory .access .buffers .config .ledger .listener .messages
.buffers: .slots
.poller:
.timeouts:
.transport: .passed .poller
.parking: .passed .poller
.intake: .buffers .passed .slots
.tally:
.keeper: .buffers .poller .tally
.outlet: .slots
.gathering: .passed .poller .slots .transport
.kept: .gathering .intake .keeper .passed .requests .slots
.connection: .intake .keeper .outlet .passed .slots
.proxied: .intake .passed .proxy .slots
.engines: .application .passed .setup .tally
.engines.patient: .passed
.engines.asgi: .access .application .engines .engines.patient .kept .parking .passed .poller .slots .tally
    .timeouts .tls .transport
.engines.stream: .engines .passed .tls
.engines.connection: .buffers .connection .engines .passed .slots .tls
.engines.blocking: .engines .passed .reset .tls
.engines.listener: errors .application .engines .passed
.reports: _conversation .ledger .messages .passed
.worker: _ancillary _conversation _message errors .application .config .engines .intake .ledger .logs .messages
    .passed .proxied .proxy .reports .setup .slots .tally
.welcome: fdpass
# the public names
serve: .config .connection .passed .server
"""
"""The server's rows: a module, a colon, and what it may import. What begins with a dot is within `serve`."""


def rows_of(table):
    """Such rows as MAY_IMPORT has them."""
    rows, row = {}, set()
    for line in table.strip().splitlines():
        words = [f"serve{word}" if word.startswith(".") else word for word in line.split()]
        if line.startswith("#"):
            continue
        if not line.startswith(" "):
            row = rows[words.pop(0).removesuffix(":")] = set()
        row.update(words)
    return rows


MAY_IMPORT |= rows_of(_SERVE)

# testing.pairs makes its socket pairs as channels do: the one private thing that users' tests need too.
TESTING_MAY_IMPORT = PUBLIC | {"_pair"}


def name_of(path: Path) -> str:
    """The module's name within fdpass: ``aio._channel``; the façade is ``fdpass``."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts) or FACADE


def imports(tree: ast.AST, package: str = "fdpass", modules: frozenset[str] = frozenset()) -> set[str]:
    """What of fdpass a file imports when it runs, by the names of `name_of`."""
    found = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                found.add(whole if whole.removeprefix("fdpass.") in modules else source)
    return {name.removeprefix("fdpass.") for name in found if name.split(".")[0] == "fdpass"}


MODULES = frozenset(map(name_of, FILES))


def imports_of(path: Path) -> set[str]:
    package = ".".join(["fdpass", *path.relative_to(ROOT).parent.parts])
    return imports(ast.parse(path.read_text()), package, MODULES)


def allowed(name: str) -> set[str]:
    room = name.split(".", maxsplit=1)[0]
    if name == FACADE:
        return {module for module in MAY_IMPORT if module.split(".")[0] not in {"serve", "__main__"}}
    if room == "cli":
        return {module for module in MODULES if module.split(".")[0] != "testing"}
    if room == "testing":
        return TESTING_MAY_IMPORT | {module for module in MODULES if module.split(".")[0] == "testing"}
    return MAY_IMPORT[name]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_imports_only_what_the_table_allows(path):
    """A file without a row fails here as well: a new room needs a place in the table."""
    assert imports_of(path) - allowed(name_of(path)) == set()


def test_the_table_names_only_what_exists():
    """A row for a module that has gone, or a permission to import one, would hold nothing."""
    assert set(MAY_IMPORT) | {name for row in MAY_IMPORT.values() for name in row} | TESTING_MAY_IMPORT <= MODULES


def test_no_file_imports_in_a_circle():
    """static_order() raises CycleError, naming the circle."""
    graph = {name_of(path): imports_of(path) - {name_of(path)} for path in FILES}
    assert set(graphlib.TopologicalSorter(graph).static_order()) == MODULES


def test_one_file_alone_names_scm_rights():
    """In code; prose may."""
    naming = set()
    for path in FILES:
        with tokenize.open(path) as file:
            names = {
                token.string for token in tokenize.generate_tokens(file.readline) if token.type == tokenize.NAME
            }
        if any("SCM_RIGHTS" in name for name in names):
            naming.add(name_of(path))
    assert naming == {"_ancillary"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_says_what_it_is_for_and_is_not_long(path):
    """The first line of the docstring is not empty; the file fits in a head."""
    text = path.read_text()
    docstring = ast.get_docstring(ast.parse(text), clean=False)
    assert docstring
    assert docstring.splitlines()[0].strip()
    assert len(text.splitlines()) < MOST_LINES


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import os, fdpass.fd", {"fd"}),
        ("from fdpass.errors import Closed", {"errors"}),
        ("from fdpass import Channel", {FACADE}),
        ("from fdpass import fd", {"fd"}),
        ("def f():\n    from fdpass.peer import Peer", {"peer"}),
        ("from . import _channel", {"aio._channel"}),
        ("from .. import Channel", {FACADE}),
        ("from ..fd import Fd", {"fd"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fdpass.fd import Fd", set()),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    import fdpass.cli", {"cli"}),
        ("if not TYPE_CHECKING:\n    import fdpass.cli", {"cli"}),
        ("import fdpassage", set()),
    ],
)
def test_the_reader_of_imports(source, expected):
    """What the tests above stand on sees each way to write an import."""
    assert imports(ast.parse(source), "fdpass.aio", MODULES) == expected
