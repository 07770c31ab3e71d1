"""The rooms of the server, one for each process and its parts: which room imports which.

Imports within functions and under ``if TYPE_CHECKING`` count too.
"""

import ast
import graphlib
from pathlib import Path

import pytest

import fdpass

ROOT = Path(fdpass.__file__).parent
ROOMS = {
    "serve.shared": set(),
    "serve.keeper": {"serve.shared"},
    "serve.dispatcher": {"serve.shared", "serve.keeper"},
    "serve.worker": {"serve.shared"},
    "serve.operator": {"serve.shared", "serve.keeper", "serve.dispatcher"},
    "serve.orphan": {"serve.shared", "serve.keeper", "serve.operator"},
    "serve.kept": {"serve.shared", "serve.keeper", "serve.dispatcher", "serve.operator", "serve.orphan"},
    "serve.renewal": {
        *("serve.shared", "serve.keeper", "serve.dispatcher", "serve.operator", "serve.kept", "serve.worker"),
    },
    "serve.server": {
        *("serve.shared", "serve.keeper", "serve.dispatcher", "serve.operator", "serve.kept", "serve.renewal"),
    },
    "serve": {"serve.shared", "serve.server", "serve.worker"},
    "_dashboard": {"serve.operator"},
    "_cli": {"_dashboard", "serve.shared", "serve.server", "serve.operator", "serve.worker"},
}
"""For each room, the other rooms that its files may import."""

ONLY = {
    ("_cli", "serve.shared"): {
        "serve.shared.config",
        "serve.shared.env_file",
        "serve.shared.setting",
        "serve.shared.source",
    },
    ("_dashboard", "serve.operator"): {"serve.operator.client"},
    ("_cli", "_dashboard"): {"_dashboard.settings", "_dashboard.run"},
    ("_cli", "serve.operator"): {"serve.operator.client", "serve.operator.servers", "serve.operator.watch"},
    ("_cli", "serve.worker"): {"serve.worker.application", "serve.worker.engines", "serve.worker.preparation"},
    ("serve.renewal", "serve.worker"): {"serve.worker.application", "serve.worker.preparation"},
    ("serve", "serve.shared"): {"serve.shared.config"},
    ("serve.dispatcher", "serve.keeper"): {"serve.keeper.estate"},
    ("serve.operator", "serve.keeper"): {
        *("serve.keeper.estate", "serve.keeper.requests", "serve.keeper.texts"),
    },
    ("serve.server", "serve.keeper"): {"serve.keeper.estate", "serve.keeper.program"},
}
"""For two rooms, the only files of the second that the first may import."""

PURE = {
    *("serve.shared.config", "serve.shared.setting", "serve.shared.ledger", "serve.shared.messages"),
    *("serve.shared.slots", "serve.shared.described", "serve.keeper.estate", "serve.dispatcher.fates"),
    "serve.keeper.texts",
    *("serve.dispatcher.recovery", "serve.dispatcher.connections", "serve.dispatcher.accept.balance"),
    *("serve.dispatcher.accept.drain", "serve.dispatcher.totals", "serve.dispatcher.byte_counts"),
    *("_dashboard.state", "_dashboard.figures", "_dashboard.families"),
    *("serve.worker.custody.request_end", "serve.worker.proxy_header"),
}
"""Policy: no descriptor, no clock, no loop."""

_IMPURE = {"asyncio", "select", "socket", "signal", "subprocess", "threading", "time", "fcntl"}


def name_of(path):
    """The module's name within fdpass; that of a package is the folder's."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imported(path):
    """The full names of all that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole.removeprefix("fdpass.") in FILES else node.module


def known(name):
    """The modules of fdpass that one of them imports."""
    found = {each.removeprefix("fdpass.") for each in imported(FILES[name]) if each.split(".")[0] == "fdpass"}
    return {"" if each == "fdpass" else each for each in found} - {name}


def room_of(name):
    """The room of a module; None if it is in none."""
    return max((room for room in ROOMS if f"{name}.".startswith(f"{room}.")), key=len, default=None)


SERVER = [name for name in FILES if room_of(name)]


@pytest.mark.parametrize("name", SERVER)
def test_a_file_imports_only_from_rooms_that_its_own_may_know(name):
    room = room_of(name)
    for other in known(name):
        there = room_of(other)
        if there not in {None, room}:
            assert there in ROOMS[room], f"{name} imports {other}"
            assert other in ONLY.get((room, there), {other}), f"{name} imports {other}"


def test_the_rooms_have_an_order(capsys):
    """The test prints it, from the room that imports no other."""
    with capsys.disabled():
        print("\n  rooms:", " < ".join(graphlib.TopologicalSorter(ROOMS).static_order()))


@pytest.mark.parametrize("name", sorted(PURE))
def test_policy_touches_no_descriptor_clock_or_loop(name):
    touched = {each.split(".")[0] for each in imported(FILES[name])} & _IMPURE
    assert touched <= {"socket"} if name == "serve.worker.proxy_header" else not touched  # only for inet_ntop
