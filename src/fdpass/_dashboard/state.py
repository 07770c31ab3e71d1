"""The state of a server, by its status: whether it is ready, what share of new connections it should get. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fdpass._words import counted


@dataclass(frozen=True, slots=True)
class State:
    """What the checks say about a server.

    Attributes:
        name: silent (it does not answer), stopping, starting (no worker is ready) or serving.
        why: The reason, in words.
        weight: The share of connections that a load balancer should give it, in percent; 0 unless it serves.
    """

    name: str
    why: str
    weight: int = 0

    @property
    def ready(self) -> bool:
        """Whether the server should get connections."""
        return self.name == "serving"

    @property
    def agent_line(self) -> str:
        """What HAProxy's agent-check gets. "ready" ends a "drain" that the last process of the server has said."""
        if self.ready:
            return f"ready up {self.weight}%\n"
        return "drain\n" if self.name == "stopping" else f"down #{self.why}\n"


def silent(why: str) -> State:
    """The state of a server that does not answer."""
    return State("silent", why)


def state_of(status: Mapping[str, Any], capacity: int = 0) -> State:
    """The state of a server that answers.

    Args:
        status: In the form of ``fdpass status --json``.
        capacity: The number of connections at which the weight is least; 0 = the server's own limit.
    """
    server, workers = status["server"], status["workers"]
    if server["stopping"]:
        return State("stopping", "the server is stopping")
    ready = sum(worker["state"] == "ready" for worker in workers)
    if not ready:
        return State("starting", "no worker is ready")
    target = server.get("workers_wanted", ready)
    most = capacity or server.get("most_connections", 0)
    free = 1 - status["connections"]["live"] / most if most else 1.0
    why = f"{min(ready, target)} of {counted(target, 'worker')} ready"
    return State("serving", why, _weight(free, ready / max(1, target)))


def _weight(free: float, ready: float) -> int:
    """The free share of the connections that may be open, times the share of the workers that are ready.

    At least 1: with a weight of 0, HAProxy would give the server nothing even if all others are full, too.
    """
    return max(1, round(100 * max(0.0, free) * min(1.0, ready)))
