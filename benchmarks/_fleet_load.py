"""The clients of a fleet: each sends requests over one connection to HAProxy, and counts the answers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from _fleet_hosts import Fleet
from _fleet_namespaces import LIMIT, wait_until

ADDRESS = ("127.0.0.1", 80)
RECOVERY = 0.02  # seconds before a client that failed connects anew
BODY = b"buy"
_LOADS = itertools.count()  # the names of requests are unique


@dataclass
class Tally:
    """What clients saw.

    Attributes:
        good: Requests that were answered with 200 by the application, by method.
        hosts: The same, by the host that answered.
        failed: What a client saw instead, by the query of the request: a status, or "closed" without a response.
        began: When each failed request was sent, on the monotonic clock.
        slowest: The longest time until an answer, in seconds.
    """

    good: Counter[str] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    slowest: float = 0.0

    @property
    def requests(self) -> int:
        return self.good.total() + len(self.failed)


class Client:
    """A client with one connection, which it opens anew if a request fails."""

    def __init__(self, name: str, method: str, path: str = "/") -> None:
        self.name, self.method, self.path = name, method, path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._numbers = itertools.count()

    async def ask(self, tally: Tally) -> None:
        """Send one request and count the answer."""
        query = f"{self.name}-{next(self._numbers)}"
        began = time.monotonic()
        try:
            status, body = await asyncio.wait_for(self._answer(query), LIMIT)
        except (OSError, EOFError):
            status, body = "closed", ""
        tally.slowest = max(tally.slowest, time.monotonic() - began)
        host, _, answered = body.partition(" ")
        if (status, answered) == ("200", query):
            tally.good[self.method] += 1
            tally.hosts[host] += 1
            return
        tally.failed[query], tally.began[query] = status, began
        await self.close()
        await asyncio.sleep(RECOVERY)

    async def _answer(self, query: str) -> tuple[str, str]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*ADDRESS)
        reader, writer = self._streams
        body = BODY if self.method == "POST" else b""
        head = f"{self.method} {self.path}?{query} HTTP/1.1\r\nHost: shop\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines if line)
        answer = await reader.readexactly(int(fields["content-length"]))
        if fields.get("connection") == "close":
            await self.close()
        return first.split(" ")[1], answer.decode()

    async def close(self) -> None:
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _repeat(client: Client, tally: Tally, over: threading.Event, pause: float) -> None:
    while not over.is_set():
        await client.ask(tally)
        await asyncio.sleep(pause)
    await client.close()


@contextmanager
def load(fleet: Fleet, gets: int = 8, posts: int = 8, pause: float = 0.03) -> Iterator[Tally]:
    """Clients ask, each with a pause after an answer, until the end of the block."""
    tally, over, errors = Tally(), threading.Event(), list[BaseException]()
    serial = next(_LOADS)
    clients = [Client(f"g{serial}-{number}", "GET") for number in range(gets)]
    clients += [Client(f"p{serial}-{number}", "POST") for number in range(posts)]

    async def play() -> None:
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(_repeat(client, tally, over, pause))

    def run() -> None:
        try:
            fleet.balancer.run(lambda: asyncio.run(play()))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_until(lambda: errors or tally.good.total() > len(clients), "the first answers")
        yield tally
    finally:
        over.set()
        thread.join()
    if errors:
        raise errors[0]


@contextmanager
def waiting(fleet: Fleet, gets: int, posts: int) -> Iterator[Tally]:
    """Requests that the application holds until the file `release` exists; all have ended when the block has."""
    tally = Tally()
    clients = [Client(f"wg{number}", "GET", "/wait") for number in range(gets)]
    clients += [Client(f"wp{number}", "POST", "/wait") for number in range(posts)]

    async def ask(client: Client) -> None:
        await client.ask(tally)
        await client.close()

    async def play() -> None:
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(ask(client))

    thread = threading.Thread(target=lambda: fleet.balancer.run(lambda: asyncio.run(play())))
    thread.start()
    try:
        wait_until(lambda: len(in_progress(fleet)) == len(clients), "all waiting requests in the application")
        yield tally
    finally:
        (fleet.folder / "release").touch()
        thread.join()


def in_progress(fleet: Fleet) -> dict[str, str]:
    """The host of each request of `waiting`, by its query: the one that has begun it last."""
    begun = [
        (float(when), query, host.server)
        for host in fleet.hosts.values()
        for _, query, _, when in (line.split(" ") for line in host.executed())
        if query.startswith("w")
    ]
    return {query: server for _, query, server in sorted(begun)}


def executions(fleet: Fleet, method: str) -> Counter[str]:
    """How often each request of a method was begun by the application, by its query."""
    lines = (line.split(" ") for host in fleet.hosts.values() for line in host.executed())
    return Counter(words[1] for words in lines if words[0] == method)


class Held:
    """Event streams that stay open, each with the host that it was given to."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.socks: list[tuple[socket.socket, str]] = []

    def open(self, number: int) -> None:
        """Open more streams, one after the other; each has said its host before the next one is opened."""
        self.socks += self._fleet.balancer.run(lambda: [_stream(len(self.socks) + each) for each in range(number)])

    def counts(self) -> Counter[str]:
        """How many streams each host has."""
        return Counter(host for _, host in self.socks)

    def close(self) -> None:
        for sock, _ in self.socks:
            sock.close()
        self.socks.clear()


def _stream(number: int) -> tuple[socket.socket, str]:
    sock = socket.create_connection(ADDRESS, LIMIT)
    try:
        sock.sendall(f"GET /hold?h{number} HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
        with sock.makefile() as stream:
            return sock, next(line for line in stream if line.startswith("data: ")).split()[1]
    except BaseException:
        sock.close()
        raise


def unevenness(counts: Counter[str], hosts: int) -> float:
    """How far the host that is farthest from the even share is from it, as a fraction of that share."""
    even = counts.total() / hosts
    return max(abs(count - even) for count in [*counts.values(), *[0] * (hosts - len(counts))]) / even
