"""`Server`: what the dashboard knows of one server: its newest status, its state, and the last minutes."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from fdpass._dashboard.control import Silent, asking
from fdpass._dashboard.figures import sample
from fdpass._dashboard.settings import WatchedServer
from fdpass._dashboard.state import State, silent, state_of
from fdpass.errors import RequestFailed

LIMIT = 2.0  # seconds for one poll
_SAMPLES = 300  # one a second
_EVENTS = 200
_PAST = 10  # polls from which latency is computed


class Server:
    """One watched server.

    Args:
        watched: Its name and its control socket.
        capacity: See `state_of`.

    Attributes:
        name: Its name.
        path: Its control socket.
        status: The newest status; None if the server was silent at the last poll.
        state: The state.
        answered_at: When it last answered, on the monotonic clock; at first when this object was made.
    """

    def __init__(self, watched: WatchedServer, capacity: int = 0) -> None:
        self.name = watched.name
        self.path = watched.path
        self._capacity = capacity
        self.status: Mapping[str, Any] | None = None
        self.state: State = silent("it was not asked yet")
        self.answered_at = time.monotonic()
        self._past: deque[Mapping[str, Any]] = deque(maxlen=_PAST)
        self._pid = self._last_event = self._count = 0
        self._events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)
        self._samples: deque[dict[str, Any]] = deque(maxlen=_SAMPLES)

    async def poll(self) -> None:
        """Ask the server for its status and its new events, and note the answer or the silence."""
        try:
            async with asking(self.path, LIMIT) as ask:
                status = await ask("status")
                if status["server"]["pid"] != self._pid:  # another server: its events begin at 1
                    self._pid, self._last_event = status["server"]["pid"], 0
                self._note(status)
                with contextlib.suppress(RequestFailed):  # an older server has no events
                    self._note_events(await ask("events", after=self._last_event))
        except (Silent, RequestFailed) as error:
            self._note_silence(str(error))
        except Exception as error:  # noqa: BLE001 - another version of fdpass may answer anything
            self._note_silence(f"an answer without what a status has: {error!r}")

    def _note_silence(self, why: str) -> None:
        self.status, self.state = None, silent(why)

    def _note_events(self, reply: Mapping[str, Any]) -> None:
        self._last_event = reply["last"]
        for event in reply["events"]:
            self._count += 1
            self._events.append({**event, "number": self._count})

    def _note(self, status: Mapping[str, Any]) -> None:
        now = time.monotonic()
        found = sample(
            self.status, status, max(now - self.answered_at, 0.001), self._past[0] if self._past else None
        )
        self._samples.append({"at": round(time.time(), 3), **found})
        self._past.append(status)
        self.status, self.state, self.answered_at = status, state_of(status, self._capacity), now

    def events_after(self, number: int) -> list[dict[str, Any]]:
        """The newest events that came after one, which has this number; a restarted server goes on counting."""
        return [event for event in self._events if event["number"] > number]

    def samples(self) -> list[dict[str, Any]]:
        """The points of the last minutes."""
        return list(self._samples)

    def record(self) -> dict[str, object]:
        """The server as the page and ``/status.json`` show it."""
        return {
            "name": self.name,
            "control": self.path,
            "state": self.state.name,
            "why": self.state.why,
            "weight": self.state.weight,
            "status": self.status,
            "sample": self._samples[-1] if self.status and self._samples else None,
        }
