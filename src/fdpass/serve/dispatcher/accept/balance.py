"""Which worker gets the next connection: pure functions of a snapshot.

A snapshot is a list of loads by row of the ledger: how many connections the worker in that row has, or `NEVER` if
no worker there can take one now. What an object remembers between choices (the next row of round robin, the seeds
of the hash) is its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Protocol

NEVER = 1 << 62
"""The load of a row that gets nothing: it has no active worker, or its worker has no credit or is stuck."""


class Balance(Protocol):
    """Chooses workers.

    Attributes:
        by_client: Whether the choice depends on the client's address.
    """

    by_client: bool

    def choose(self, loads: Sequence[int], requests: Sequence[int], client: Any) -> int:
        """Choose the row that gets the next connection.

        Args:
            loads: Connections of each row, or `NEVER`.
            requests: Requests in progress of each row.
            client: The client's address, as of accept(2).

        Returns:
            A row whose load is not `NEVER`; -1 if there is none.
        """
        ...


class Least:
    """Fewest connections; among equals fewest requests in progress; among these the next in turn."""

    by_client = False

    def __init__(self) -> None:
        self._next = 0

    def choose(self, loads: Sequence[int], requests: Sequence[int], client: Any) -> int:  # noqa: ARG002
        """See `Balance.choose`."""
        count = len(loads)
        least = min(loads) if count else NEVER
        if least == NEVER:
            return -1
        chosen, fewest = -1, NEVER
        row = self._next
        for _ in range(count):
            if row >= count:
                row = 0
            if loads[row] == least and requests[row] < fewest:
                chosen, fewest = row, requests[row]
                if fewest <= 0:  # no row can have fewer: with idle workers the search is short
                    break
            row += 1
        self._next = chosen + 1
        return chosen


class RoundRobin:
    """Each row in its turn; rows that cannot take a connection are skipped."""

    by_client = False

    def __init__(self) -> None:
        self._next = 0

    def choose(self, loads: Sequence[int], requests: Sequence[int], client: Any) -> int:  # noqa: ARG002
        """See `Balance.choose`."""
        count = len(loads)
        for step in range(count):
            row = (self._next + step) % count
            if loads[row] != NEVER:
                self._next = row + 1
                return row
        return -1


class Hash:
    """By the client's address, so that all connections of one client get to one worker.

    Rendezvous hashing (Thaler and Ravishankar, 1998): each row has a score for each client, and the client goes to
    the row with the highest score among those that can take a connection. So a row that comes or goes takes or
    leaves its own share of the clients, and all others stay where they are. Over 50,000 addresses each of 8 rows
    gets 0.98 to 1.02 of an even share, and each of 32 gets 0.93 to 1.06. Clients without an address (Unix sockets)
    are spread by `RoundRobin`.
    """

    by_client = True

    def __init__(self) -> None:
        self._seeds: list[int] = []  # of each row; odd
        self._round_robin = RoundRobin()

    def choose(self, loads: Sequence[int], requests: Sequence[int], client: Any) -> int:
        """See `Balance.choose`."""
        if not isinstance(client, tuple):
            return self._round_robin.choose(loads, requests, client)
        seeds, number = self._seeds, _spread(client[0])
        while len(seeds) < len(loads):
            seeds.append(_spread(f"{len(seeds)}.") | 1)
        # The upper bits of a product with an odd number, cut to 32 bits, depend on all bits of the client's
        # number.
        scores = [
            number * seed & 0xFFFFFFFF if load != NEVER else -1 for seed, load in zip(seeds, loads, strict=False)
        ]
        best = max(scores, default=-1)
        return scores.index(best) if best >= 0 else -1


def _spread(text: str) -> int:
    # CRC-32 is fast and the same in every run, but similar texts get similar values: a multiplication (by Knuth's
    # multiplier for 32 bits) and a shifted XOR spread them.
    value = zlib.crc32(text.encode()) * 2654435761 & 0xFFFFFFFF
    return (value ^ value >> 15) * 2246822519 & 0xFFFFFFFF


BALANCES: dict[str, type[Balance]] = {"least": Least, "round-robin": RoundRobin, "hash": Hash}
"""For each setting of ``--balance`` its class."""
