"""`Ended`: the ends of connections, as workers tell them, in the ledger or by a message."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from fdpass.errors import ProtocolError
from fdpass.serve.dispatcher.connections import Connections
from fdpass.serve.dispatcher.custody import Custody
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.shared.ledger import Ledger

log = logging.getLogger("fdpass.serve")

_AGAIN_SECONDS = 0.005  # the ledger is not read for each of a thousand connections a second


class Ended:
    """Takes ended connections out of the books and out of custody.

    Args:
        ledger: Where workers note ends.
        accounts: The books.
        custody: Who keeps duplicates of connections, if anybody does.
    """

    def __init__(self, ledger: Ledger, accounts: Connections, custody: Custody | None) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._custody = custody
        self._members: dict[int, WorkerHandle] = {}
        self._read = 0.0  # when the ledger was read, on the monotonic clock
        self._counts: list[int] = []  # of each row, how many ends were noted by then

    def add(self, member: WorkerHandle) -> None:
        """A worker can have connections from now on."""
        self._members[member.row] = member
        if member.row < len(self._counts):
            self._counts[member.row] = 0  # else the number of whoever was in this row before would hide its own

    def remove(self, member: WorkerHandle) -> None:
        """A worker has ended, and what it noted was read."""
        if self._members.get(member.row) is member:
            del self._members[member.row]

    def read_again(self) -> list[WorkerHandle]:
        """As `read`, unless it was done a moment ago."""
        return self.read() if time.monotonic() - self._read > _AGAIN_SECONDS else []

    def read(self) -> list[WorkerHandle]:
        """Read in the ledger which connections have ended. A worker that notes nonsense is killed.

        Returns:
            The workers that noted something.
        """
        self._read = time.monotonic()
        height = max(self._members, default=-1) + 1
        before, self._counts = self._counts, self._ledger.ended[:height].tolist()
        if self._counts == before:
            return []
        before += [0] * (height - len(before))
        noted = [self._members[row] for row in self._members if self._counts[row] != before[row]]
        for member in noted:
            try:
                self._end(member, self._ledger.read_notes(member.row), shut=False)
            except ProtocolError as error:
                log.error("worker %d is killed: %s", member.pid, error)  # noqa: TRY400 - its nonsense, not our traceback
                member.kill()
        return noted

    def told(self, member: WorkerHandle, slots: Sequence[int]) -> None:
        """A worker says by a message that these have ended, which it could not shut down.

        Raises:
            ProtocolError: The worker does not have one of them. Those before it have ended.
        """
        self._end(member, slots, shut=True)

    def _end(self, member: WorkerHandle, slots: Sequence[int], *, shut: bool) -> None:
        finish, row = self._accounts.finish, member.row
        count = 0
        try:
            for slot in slots:
                if not finish(slot, row):
                    raise ProtocolError("it reports the end of a connection that it does not have")
                count += 1
        finally:
            member.live -= count
            if self._custody is not None:
                (self._custody.shut if shut else self._custody.end)(slots[:count])
