"""`Watch`: asks all servers once a second, however many clients look, and publishes what they answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from fdpass._dashboard.server import Server

EVERY = 1.0  # seconds from one poll to the next
_WAIT = 0.7  # seconds that a snapshot waits for slow servers; they are in a later one


@dataclass(frozen=True)
class Snapshot:
    """What all servers have answered.

    Attributes:
        number: Counts up.
        at: Unix time.
        servers: A record for each server, for the page and ``/status.json``.
        actions: Whether the page can act.
    """

    number: int
    at: float
    servers: Sequence[dict[str, object]]
    actions: bool

    @cached_property
    def json(self) -> bytes:
        """The snapshot as one line of JSON: made once for all clients."""
        return json.dumps({"at": self.at, "actions": self.actions, "servers": self.servers}).encode()


class Watch:
    """Polls servers.

    Args:
        servers: The servers.
        actions: Whether clients may act: the page is told.

    Attributes:
        servers: The same.
    """

    def __init__(self, servers: Sequence[Server], *, actions: bool) -> None:
        self.servers = servers
        self._actions = actions
        self._snapshot: Snapshot | None = None
        self._closed = False
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        """Poll until cancelled. A server that answers slowly holds up neither the others nor the snapshots."""
        polls: dict[Server, asyncio.Task[None]] = {}
        try:
            due = time.monotonic()
            while True:
                for server in self.servers:
                    if server not in polls or polls[server].done():
                        polls[server] = asyncio.create_task(server.poll())
                await asyncio.wait(polls.values(), timeout=_WAIT)
                await self._publish()
                due = max(due + EVERY, time.monotonic())
                await asyncio.sleep(due - time.monotonic())
        finally:
            for poll in polls.values():
                poll.cancel()
            await asyncio.gather(*polls.values(), return_exceptions=True)

    async def _publish(self) -> None:
        number = self._snapshot.number + 1 if self._snapshot else 1
        records = [server.record() for server in self.servers]
        async with self._changed:
            self._snapshot = Snapshot(number, time.time(), records, self._actions)
            self._changed.notify_all()

    async def close(self) -> None:
        """End the iterations of `snapshots`."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def latest(self) -> Snapshot:
        """The newest snapshot; waits for the first."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._snapshot is not None)
        assert self._snapshot is not None
        return self._snapshot

    async def snapshots(self) -> AsyncIterator[Snapshot]:
        """The newest snapshot, and then each one that is the newest when the caller asks for the next."""
        number = 0
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._closed or self._number > number)  # noqa: B023 - awaited here
            if self._closed or self._snapshot is None:
                return
            number = self._snapshot.number
            yield self._snapshot

    @property
    def _number(self) -> int:
        return self._snapshot.number if self._snapshot else 0

    async def history(self) -> bytes:
        """The samples of the last minutes of each server, as one line of JSON."""
        await self.latest()
        return json.dumps({server.name: server.samples() for server in self.servers}).encode()
