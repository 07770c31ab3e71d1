"""The imports of src/fdpass obey the layers, and each file the rules for size and first line.

The server counts as one layer here; test_rooms.py has the rules for its rooms. Imports within functions and under
``if TYPE_CHECKING`` count too, since a reader follows them. Names that `fdpass` loads at their first use do not.
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


def name_of(path: Path) -> str:
    """The module's name within fdpass: ``aio._channel``; the façade is ``fdpass``."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts) or FACADE


_VERBS = (
    "dashboard grab inspect keep recv send demo serve status top list reload upgrade scale stop workers completion"
)
_KEEP = (
    "environment limits notification processes settings same_file store notify_socket held_listeners program "
    "relay restart supervisor protocol client commands run"
)
_DASHBOARD = (
    "settings control http gate state figures server watch stream families metrics checks actions page app "
    "agent_check protocol run"
)
LAYERS = [  # from the lowest to the highest; each string is a group of modules
    ("needs nothing", ["_interrupt", "_words", "_errors"]),
    ("framing, without a socket; Fd, and the errors that carry some", ["_framing", "_kinds _fd _losses errors"]),
    ("one sendmsg, one recvmsg", ["_message _lending _ancillary"]),
    (
        "single things of the kernel",
        [
            "_memory",
            "_peer",
            "_policy",
            "_waiting",
            "_pair",
            "_activation _linger",
            "_ptrace _grab _sock_diag _proc",
        ],
    ),
    ("sockets at an address", ["_sockets"]),
    ("the core of both kinds of channel", ["_options _outbox _arrivals _conversation _channel_base _admission"]),
    ("waiting: blocking, and on anyio", ["_channel _listening", "aio._channel aio._listening aio"]),
    ("the public face", [FACADE]),
    (
        "parts of a main process",
        [
            "_supervision _supervision.loop _supervision.backoff _supervision.commands",
            "_supervision.orphans _supervision.notifier _supervision.logs",
            "_supervision.runtime _supervision.addresses _supervision.placing",
        ],
    ),
    (
        "the tools for tests; the server, which has rooms of its own; fdpass keep",
        [
            " ".join(["_keep", *(f"_keep.{name}" for name in _KEEP.split())]),
            "testing._faults testing._leaks testing._pairs testing.conformance testing testing.plugin",
            " ".join(sorted(name for name in map(name_of, FILES) if name.split(".")[0] == "serve")),
        ],
    ),
    (
        "the dashboard, which asks servers over their control sockets",
        [" ".join(["_dashboard", *(f"_dashboard.{name}" for name in _DASHBOARD.split())])],
    ),
    (
        "the command line, which no other module imports",
        [
            "_cli.signals _cli.streams _cli.progress_line _cli.progress _cli.common _cli.run "
            "_cli.environment _cli.aliases _cli.habits _cli.settings_file _cli.server "
            "_cli.demo_app _cli.demo_show _cli.demo_server _cli.demo_uvicorn _cli.demo_picture _cli.demo_serve "
            "_cli.demo_live_app _cli.demo_live_show _cli.demo_live_client _cli.demo_live_picture _cli.demo_live "
            "_cli.keep_commands _cli.status_picture _cli.events _cli.top_screen "
            + " ".join(f"_cli.{verb}" for verb in _VERBS.split())
            + " _cli _cli.manual __main__"
        ],
    ),
]
"""A file imports from lower layers, and from modules before it in its own group; nothing else of fdpass."""

PUBLIC = {FACADE, "aio", "errors"}  # what users can import: the only modules that `testing` imports


def imports(tree: ast.AST, package: str = "fdpass", modules: frozenset[str] = frozenset()) -> set[str]:
    """The modules of fdpass that a file imports anywhere, by the names of `name_of`."""
    found = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
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


def lower(name: str) -> set[str]:
    """The modules that a file may import."""
    below: set[str] = set()
    for _, groups in LAYERS:
        for group in map(str.split, groups):
            if name in group:
                return below | set(group[: group.index(name)])
        below.update(*map(str.split, groups))
    pytest.fail(f"{name} has no place in LAYERS")


def of(*rooms: str) -> list[Path]:
    """The files whose names start with one of these rooms."""
    return [path for path in FILES if name_of(path).split(".")[0] in rooms]


_SERVER = set(of("serve"))
PRIMITIVE = [path for path in FILES if path not in _SERVER]


@pytest.mark.parametrize("path", PRIMITIVE, ids=name_of)
def test_a_file_imports_only_from_lower_layers(path):
    """Or from modules before it in its own group. A file that is in no layer fails as well."""
    assert imports_of(path) - lower(name_of(path)) == set()


def test_the_layers_name_each_module_once():
    """And no module that does not exist."""
    assert sorted(name for _, groups in LAYERS for group in groups for name in group.split()) == sorted(MODULES)


@pytest.mark.parametrize("path", of("testing"), ids=name_of)
def test_fdpass_testing_imports_only_public_modules(path):
    """So users can write all that it does."""
    others = {name for name in imports_of(path) if name.split(".")[0] != "testing"}
    assert others <= PUBLIC


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of a circle, if there is one."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_no_modules_import_each_other_in_a_circle():
    """Imports within functions and for types count too."""
    assert circle({name_of(path): imports_of(path) for path in FILES}) == []


def test_a_circle_of_imports_for_types_is_found():
    """One of two files imports the other for its types only."""
    sources = {
        "_fd": "from fdpass.errors import Closed",
        "errors": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fdpass._fd import Fd",
    }
    graph = {name: imports(ast.parse(source), "fdpass", MODULES) for name, source in sources.items()}
    assert set(circle(graph)) == {"_fd", "errors"}


def test_one_file_alone_names_scm_rights():
    """In code; comments and docstrings of other files may name it."""
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
    """The first line of the docstring is not empty; the file has fewer than MOST_LINES lines."""
    text = path.read_text()
    docstring = ast.get_docstring(ast.parse(text), clean=False)
    assert docstring
    assert docstring.splitlines()[0].strip()
    assert len(text.splitlines()) < MOST_LINES


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import os, fdpass._fd", {"_fd"}),
        ("from fdpass.errors import Closed", {"errors"}),
        ("from fdpass import Channel", {FACADE}),
        ("from fdpass import _fd", {"_fd"}),
        ("def f():\n    from fdpass._peer import Peer", {"_peer"}),
        ("from . import _channel", {"aio._channel"}),
        ("from .. import Channel", {FACADE}),
        ("from .._fd import Fd", {"_fd"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fdpass._fd import Fd", {"_fd"}),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    import fdpass._cli", {"_cli"}),
        ("import fdpassage", set()),
    ],
)
def test_imports_are_found_in_each_form(source, expected):
    """The tests above depend on it."""
    assert imports(ast.parse(source), "fdpass.aio", MODULES) == expected
