"""What clients notice of three hosts behind HAProxy: an upgrade of all, hosts that come, go and die, held streams.

Run ``python benchmarks/fleet.py`` as root. benchmarks/README.md says how it is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from _fleet_hosts import EXAMPLE, Fleet, Host, fleet
from _fleet_load import Held, Tally, executions, in_progress, load, unevenness, waiting
from _fleet_namespaces import missing, wait_until

KEEP_ALIVE = ("option http-server-close", "option http-keep-alive")


@dataclass(frozen=True)
class Run:
    """A fleet, and what the arguments say of its clients."""

    fleet: Fleet
    gets: int
    posts: int
    pause: float
    waits: int
    held: int
    steady: float

    @contextmanager
    def load(self, what: str) -> Iterator[Tally]:
        """Clients ask; afterwards the line of this part is printed."""
        with load(self.fleet, self.gets, self.posts, self.pause) as tally:
            began, before = time.monotonic(), tally.requests
            yield tally
            seconds, count = time.monotonic() - began, tally.requests - before
        failed = Counter(query[0] for query in tally.failed)
        print(
            f"{what}: {count:,} requests in {seconds:.1f} s ({count / seconds:,.0f} a second), "
            f"{failed['g']} GETs and {failed['p']} POSTs failed; the slowest took {tally.slowest * 1000:,.0f} ms"
        )


def steady(run: Run) -> None:
    with run.load("nothing happens"):
        time.sleep(run.steady)


def upgrade(run: Run) -> None:
    with run.load("upgrade of all hosts"), contextlib.redirect_stdout(io.StringIO()):
        for host in run.fleet.hosts.values():
            run.fleet.upgrade(host)


def move(run: Run, host: Host) -> None:
    with run.load("a host removed"):
        run.fleet.remove(host)
    with run.load("a host added") as tally:
        run.fleet.add(host)
        wait_until(lambda: tally.hosts[host.server], "requests for the new host")


def death(run: Run, host: Host) -> None:
    """The host's link goes down and its processes are killed, while it executes requests that take long."""

    def left() -> set[str]:
        """GETs that no other host has begun."""
        begun = in_progress(run.fleet)
        return {query for query, name in begun.items() if name == host.server and query.startswith("wg")}

    with run.load("a host dies") as tally:
        with waiting(run.fleet, run.waits, run.waits) as waited:
            there = [query for query, name in in_progress(run.fleet).items() if name == host.server]
            posts = [query for query in there if query.startswith("wp")]
            when = run.fleet.cut(host)
            wait_until(lambda: run.fleet.rows()[host.server]["status"] == "DOWN", "the death seen by HAProxy")
            seen = time.monotonic() - when
            wait_until(lambda: not left(), "the GETs repeated")
            repeated = time.monotonic() - when
        run.fleet.mend(host)
        host.serve()
        wait_until(run.fleet.all_up, "the host's return")
    gets = len(there) - len(posts)
    late = sum(sent > when for sent in tally.began.values())
    executed = executions(run.fleet, "POST")
    print(
        f"  HAProxy gave the host no request after {seen:.1f} s, and had repeated its GETs after {repeated:.1f} s"
    )
    print(f"  long requests in progress there: {gets} GETs, of which {_failed(waited, 'g')} failed;")
    print(
        f"    {len(posts)} POSTs, of which {_failed(waited, 'p')} failed; of those on other hosts failed", end=" "
    )
    print(len(set(waited.failed) - set(there)))
    print(f"  failed requests that were sent after the death: {late}")
    print(f"  POSTs executed: {executed.total():,}; executed twice: {sum(n > 1 for n in executed.values())}")


def _failed(tally: Tally, kind: str) -> int:
    return sum(query.startswith(f"w{kind}") for query in tally.failed)


def spread(run: Run, host: Host) -> None:
    """Event streams over all hosts; over two hosts, and then a third one."""
    with contextlib.closing(Held(run.fleet)) as held:
        held.open(run.held)
        tell(f"{run.held} held streams", held, 3)
        held.close()
        run.fleet.remove(host)
        held.open(run.held * 2 // 3)
        run.fleet.add(host)
        held.open(run.held - run.held * 2 // 3)
        tell("the same, when a host was added after two thirds", held, 3)


def tell(what: str, held: Held, hosts: int) -> None:
    counts = held.counts()
    each = ", ".join(str(counts[name]) for name in sorted(counts))
    print(f"{what}: {each}; at most {unevenness(counts, hosts):.1%} from even")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gets", type=int, default=8, help="clients that send GETs")
    parser.add_argument("--posts", type=int, default=8, help="clients that send POSTs")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds of a client between answer and request")
    parser.add_argument("--waits", type=int, default=15, help="long GETs, and long POSTs, when a host dies")
    parser.add_argument("--held", type=int, default=600, help="event streams that are held")
    parser.add_argument("--steady", type=float, default=5, help="seconds of load without an event")
    parser.add_argument("--only-steady", action="store_true", help="measure only this load")
    parser.add_argument("--workers", type=int, default=1, help="workers of each host")
    parser.add_argument("--keep-alive", action="store_true", help="HAProxy keeps connections for POSTs open, too")
    arguments = parser.parse_args()
    if why := missing():
        sys.exit(why)
    configuration = (EXAMPLE / "haproxy.cfg").read_text()
    if arguments.keep_alive:
        assert KEEP_ALIVE[0] in configuration
        configuration = configuration.replace(*KEEP_ALIVE)
    numbers = (arguments.gets, arguments.posts, arguments.pause, arguments.waits, arguments.held, arguments.steady)
    with (
        tempfile.TemporaryDirectory() as folder,
        fleet(Path(folder), 1000, arguments.workers, configuration=configuration) as made,
    ):
        run = Run(made, *numbers)
        steady(run)
        if not arguments.only_steady:
            upgrade(run)
            move(run, made.hosts["three"])
            death(run, made.hosts["two"])
            spread(run, made.hosts["three"])


if __name__ == "__main__":
    main()
