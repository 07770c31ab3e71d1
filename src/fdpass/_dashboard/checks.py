"""`/livez` and `/readyz`: whether servers live, and whether they should get connections."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fdpass._dashboard.http import Response, as_text
from fdpass._dashboard.server import Server

DEAD_AFTER = 10.0
"""Seconds of silence after which a server counts as dead: the loop of a dispatcher never stands still so long."""


def livez(servers: Sequence[Server]) -> Response:
    """200 while every server has answered within `DEAD_AFTER`, else 503."""
    now, lines, dead = time.monotonic(), [], False
    for server in servers:
        seconds = now - server.answered_at
        dead |= seconds > DEAD_AFTER
        lines.append(f"{server.name}: {_words(server, seconds)}")
    return as_text("\n".join(lines), 503 if dead else 200)


def _words(server: Server, seconds: float) -> str:
    return f"silent for {seconds:.0f} s: {server.state.why}" if server.status is None else "alive"


def readyz(servers: Sequence[Server]) -> Response:
    """200 while every server is ready, else 503; a line for each says why."""
    lines = [f"{server.name}: {server.state.name}: {server.state.why}" for server in servers]
    return as_text("\n".join(lines), 200 if all(server.state.ready for server in servers) else 503)
