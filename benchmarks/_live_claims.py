"""The kinds of clients of live_storm.py, the guarantee that each claims, and how it is judged."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

AT_MOST_ONCE = "at most once, and never lost silently"
AT_LEAST_ONCE = "at least once"
ONCE = "exactly once per commit"
TOLD = "consecutive, or the client is told"


@dataclass(frozen=True)
class Kind:
    """Some clients that do the same.

    Attributes:
        path: The application's kind.
        clients: How many of 200 WebSockets, or of 80 event streams.
        claim: The guarantee of issue 14 for deaths of workers.
        burst: Messages that a client sends before it reads the answers.
        fragments: A message is sent in so many fragments, with pings between them.
        sizes: Characters of a message, one of these by chance.
        compressed: Every second client offers permessage-deflate.
    """

    path: str
    clients: int
    claim: str
    burst: int = 1
    fragments: int = 0
    sizes: tuple[int, ...] = (10, 40, 300, 5000)
    compressed: bool = True


WEBSOCKETS = {
    "echo": Kind("echo", 50, AT_MOST_ONCE),
    "pipelined": Kind("echo", 10, AT_MOST_ONCE, burst=20),
    "fragmented": Kind("echo", 10, AT_MOST_ONCE, fragments=4),
    "large": Kind("echo", 3, AT_MOST_ONCE, sizes=(50_000, 70_000, 200_000)),
    "pings": Kind("echo", 5, AT_MOST_ONCE),
    "slow reader": Kind("much", 4, AT_MOST_ONCE),
    "redeliver": Kind("again", 25, AT_LEAST_ONCE),
    "redeliver, pipelined": Kind("again", 8, AT_LEAST_ONCE, burst=10),
    "redeliver, fragmented": Kind("again", 5, AT_LEAST_ONCE, fragments=4),
    "with_next": Kind("once", 30, ONCE),
    "with_next, pipelined": Kind("once", 10, ONCE, burst=10),
    "commit": Kind("commit", 15, ONCE),
    "feed": Kind("feed", 25, ONCE),
}
EVENTS = {
    "events": Kind("events", 60, TOLD),
    "events in halves": Kind("halves", 20, TOLD),
}
KINDS = WEBSOCKETS | EVENTS


@dataclass
class Toll:
    """What the clients of one kind have seen.

    Attributes:
        messages: Answers, fed messages or events that were the ones due.
        lost: Numbers that were skipped, or for which nothing came within 30 s on a connection that stood.
        twice: Numbers that came again. Where messages may be redelivered this is no fault at a death.
        disordered: Numbers that came behind a later one.
        wrong: Messages with other bytes.
        disconnects: How connections ended that their client did not end: 1012, reset, or something else.
        pongs: Answered pings.
        connections: That they opened.
        slowest: Seconds until the answers to a message, or to a burst of them, had come.
    """

    messages: int = 0
    lost: int = 0
    twice: int = 0
    disordered: int = 0
    wrong: int = 0
    pongs: int = 0
    connections: int = 0
    slowest: float = 0.0
    disconnects: Counter[str] = field(default_factory=Counter)

    @property
    def others(self) -> int:
        return sum(count for kind, count in self.disconnects.items() if kind not in {"1012", "reset"})


class Sequence:
    """The numbers that came on one connection, which should be 1, 2, 3 and so on.

    Args:
        toll: Where to count.
        last: The number that came last.
        repeats: After a death numbers may come again from an earlier one on.
    """

    def __init__(self, toll: Toll, last: int = 0, *, repeats: bool = False) -> None:
        self.toll, self.last, self.repeats = toll, last, repeats
        self.missing = set[int]()

    def take(self, number: int) -> None:
        toll = self.toll
        if number in self.missing:
            self.missing.discard(number)
            toll.disordered += 1
        elif number <= self.last:
            toll.twice += 1
            if self.repeats:
                self.last = number
        else:
            self.missing.update(range(self.last + 1, number))
            self.last = number
            toll.messages += 1

    def end(self) -> None:
        """The connection has ended."""
        self.toll.lost += len(self.missing)
        self.missing.clear()


def delivered(file: Path) -> dict[str, dict[str, int]]:
    """Judge the application's file of deliveries. By kind: lost, delivered twice, disordered, behind a commit."""
    found: dict[str, dict[str, int]] = defaultdict(Counter)
    sequences: dict[str, tuple[Toll, Sequence]] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        name, number, what = (*line.split(" ", 2), "")[:3]
        kind = name.partition("-")[0].replace("+", " ")
        if what:
            found[kind]["behind its commit"] += 1
            continue
        if name not in sequences:
            toll = Toll()
            sequences[name] = toll, Sequence(toll, repeats=KINDS[kind].claim != AT_MOST_ONCE)
        sequences[name][1].take(int(number))
    file.unlink(missing_ok=True)
    for name, (toll, sequence) in sequences.items():
        sequence.end()
        counts = found[name.partition("-")[0].replace("+", " ")]
        counts["deliveries"] += toll.messages + toll.twice
        counts["not delivered"] += toll.lost
        counts["delivered twice"] += toll.twice
        counts["delivered in another order"] += toll.disordered
    return found


def faults(kind: str, toll: Toll, deliveries: dict[str, int], *, deaths: bool) -> dict[str, Any]:
    """The counts that must be 0 for clients of a kind, in a phase with or without deaths of workers."""
    claim = KINDS[kind].claim
    found = {
        "lost": toll.lost,
        "out of order": toll.disordered,
        "wrong bytes": toll.wrong,
        "not delivered": deliveries.get("not delivered", 0),
        "delivered in another order": deliveries.get("delivered in another order", 0),
        "delivered behind its commit": deliveries.get("behind its commit", 0),
    }
    if not deaths or claim != AT_LEAST_ONCE:
        found["twice"] = toll.twice
    if not deaths or claim == AT_MOST_ONCE:
        found["delivered twice"] = deliveries.get("delivered twice", 0)
    found["disconnects"] = toll.others if deaths else toll.disconnects.total()
    return found
