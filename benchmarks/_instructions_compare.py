"""What instructions.py compares: a result with a recorded one, as far as their versions allow."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

RISE = 1.05  # the most that a figure may be of the recorded one
OURS, OTHER = "fdpass", "uvicorn"
MOST_GROWN = 10  # functions
PACKAGES = ("uvloop", "httptools", "uvicorn", "websockets", "fastapi", "pydantic", "starlette")
ONLY = {"websockets": "websocket", "fastapi": "fastapi", "pydantic": "fastapi", "starlette": "fastapi"}
"""The case whose figures depend on a package, if not those of all do."""

Row = dict[str, Any]


def versions() -> dict[str, str]:
    """All that figures depend on, except fdpass. Two builds of one version of Python differ too."""
    found = {
        "python": platform.python_version(),
        "build": f"{' '.join(platform.python_build())}, {platform.python_compiler()}",
        "libc": " ".join(platform.libc_ver()),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def differences(recorded: Row, here: Row, cases: list[str]) -> list[str]:
    """The versions that these cases depend on, and that are not the recorded ones."""
    return [
        f"{name} {recorded['versions'].get(name, 'none')} there, {found} here"
        for name, found in here["versions"].items()
        if (name not in ONLY or ONLY[name] in cases) and recorded["versions"].get(name) != found
    ]


def instructions(server: Row) -> float:
    """Of all processes of a server."""
    return float(sum(process["instructions"] for process in server.values()))


@dataclass(frozen=True)
class Comparison:
    """A figure of one server of ours in one case: instructions, or their ratio to uvicorn's."""

    case: str
    server: str
    before: float
    now: float

    @property
    def rise(self) -> float:
        return self.now / self.before

    @property
    def risen(self) -> bool:
        return self.rise > RISE


def compared(recorded: Row, here: Row, *, by_ratio: bool = False) -> Iterator[Comparison]:
    """Each figure of ours that both have; `by_ratio` takes those of which both have uvicorn's as well."""
    for case, servers in here["results"].items():
        there = recorded["results"].get(case, {})
        for server in servers:
            if server.startswith(OURS) and server in there:
                before, now = instructions(there[server]), instructions(servers[server])
                if not by_ratio:
                    yield Comparison(case, server, before, now)
                elif OTHER in there and OTHER in servers:
                    uvicorn_before, uvicorn_now = instructions(there[OTHER]), instructions(servers[OTHER])
                    yield Comparison(case, server, before / uvicorn_before, now / uvicorn_now)


def grown(recorded: Row, here: Row, one: Comparison, kind: str) -> Iterator[tuple[str, str, float, float]]:
    """The functions that cost a request more than they did: process, function, before, now.

    `kind` is "functions" (of C, in instructions) or "python" (in bytecodes). A record has the costliest functions
    only: one that is not in it is taken for the cheapest of these.
    """
    there, rows = recorded["results"][one.case][one.server], []
    for process, row in here["results"][one.case][one.server].items():
        if before := there.get(process, {}).get(kind):
            least = min(before.values())
            rows += [(process, name, before.get(name, least), now) for name, now in row.get(kind, {}).items()]
    rows.sort(key=lambda row: row[2] - row[3])
    yield from (row for row in rows[:MOST_GROWN] if row[3] > row[2])
