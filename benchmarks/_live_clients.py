"""The clients of live_storm.py: WebSockets by the `websockets` library, and event streams, in one asyncio loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import websockets
from _live_claims import AT_LEAST_ONCE, EVENTS, WEBSOCKETS, Kind, Sequence, Toll
from _serve_load import Running, in_child
from _serve_processes import HOST
from websockets.asyncio.client import ClientConnection, connect

try:
    from uvloop import new_event_loop as new_loop
except ImportError:
    from asyncio import new_event_loop as new_loop  # type: ignore[assignment]

TIMEOUT = 30.0  # seconds without the message that is due
RECOVERY = 0.02  # seconds before a client that was disconnected connects anew
PROXY = b"PROXY TCP4 192.0.2.7 192.0.2.8 4711 80\r\n"
SLOW_READ = 0.01  # seconds between two reads of a slow reader
MUCH = (20, 9000)  # frames that a slow reader asks for, and characters of each
SMALL = 8192  # bytes of a slow reader's receive buffer


@dataclass(frozen=True)
class Storm:
    address: int | str  # port, or path of a Unix socket
    proxy: bool = False  # connections begin with a PROXY header
    scale: float = 1.0  # of the number of clients
    rest: float = 0.1  # mean seconds between two messages of a client
    seed: int = 0

    def kind_of(self, error: BaseException) -> str:
        """See `kind_of`. A Unix socket has no reset: its client sees an end where none may be."""
        kind = kind_of(error)
        return "reset" if kind == "early end" and isinstance(self.address, str) else kind


async def connected(storm: Storm, *, small: bool = False) -> socket.socket:
    family = socket.AF_UNIX if isinstance(storm.address, str) else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, storm.address if isinstance(storm.address, str) else (HOST, storm.address))
        if storm.proxy:
            await loop.sock_sendall(sock, PROXY)
    except BaseException:
        sock.close()
        raise
    return sock


def kind_of(error: BaseException) -> str:
    """How a connection ended, by the exception that its client got."""
    if isinstance(error, websockets.ConnectionClosed):
        if error.rcvd is not None:
            return str(error.rcvd.code)
        return kind_of(error.__cause__) if error.__cause__ is not None else "early end"
    if isinstance(error, websockets.InvalidStatus):
        return f"status {error.response.status_code}"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "reset"
    return "early end" if isinstance(error, EOFError) else type(error).__name__


class Clients:
    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.stopping = asyncio.Event()
        self.tolls = {name: Toll() for name in WEBSOCKETS | EVENTS}

    async def run(self, end: Connection) -> dict[str, Toll]:
        """Run until something comes on `end`, and what is due has come."""
        asyncio.get_running_loop().add_reader(end.fileno(), self.stopping.set)
        async with asyncio.TaskGroup() as group:
            for kinds in (WEBSOCKETS, EVENTS):
                for name, kind in kinds.items():
                    for number in range(max(1, round(kind.clients * self.storm.scale))):
                        client = _Events if kinds is EVENTS else _STYLES.get(name, _WebSocket)
                        group.create_task(client(self, name, kind, number).live())
        asyncio.get_running_loop().remove_reader(end.fileno())
        return self.tolls


class _Client:
    def __init__(self, clients: Clients, name: str, kind: Kind, number: int) -> None:
        self.clients, self.storm, self.kind, self.number = clients, clients.storm, kind, number
        self.name = name.replace(" ", "+")
        self.toll = clients.tolls[name]
        self.chance = random.Random(f"{self.storm.seed} {name} {number}")
        self.serial = 0
        self.sequence = Sequence(self.toll)

    async def live(self) -> None:
        """Connect again and again, until all clients stop."""
        await asyncio.sleep(self.chance.uniform(0, 1))
        while not self.clients.stopping.is_set():
            self.serial += 1
            self.toll.connections += 1
            try:
                await self.once()
            except TimeoutError:
                self.toll.lost += 1
            except (OSError, EOFError, websockets.WebSocketException) as error:
                self.toll.disconnects[self.storm.kind_of(error)] += 1
            self.sequence.end()
            if not self.clients.stopping.is_set():
                await asyncio.sleep(RECOVERY)

    async def once(self) -> None:
        raise NotImplementedError

    async def rest(self) -> bool:
        """Pause; True if all clients stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.clients.stopping.wait(), self.storm.rest * self.chance.uniform(0.5, 1.5))
        return self.clients.stopping.is_set()


class _WebSocket(_Client):
    """Sends numbered messages, and compares what comes back."""

    small = False

    async def once(self) -> None:
        sock = await connected(self.storm, small=self.small)
        path = f"ws://localhost/live/{self.kind.path}/{self.name}-{self.number}-{self.serial}"
        compression = "deflate" if self.kind.compressed and self.number % 2 else None
        options: dict[str, Any] = {"ping_interval": None, "proxy": None, "open_timeout": TIMEOUT, "max_size": None}
        options |= {"close_timeout": TIMEOUT, "max_queue": 1 if self.small else 16}
        async with connect(path, sock=sock, compression=compression, **options) as socket:
            repeats = self.kind.claim == AT_LEAST_ONCE
            self.sequence = Sequence(self.toll, repeats=repeats)
            await self.converse(socket)

    async def converse(self, socket: ClientConnection) -> None:
        sent = 0
        while not await self.rest():
            expected = dict[int, str]()
            for _ in range(self.kind.burst):
                sent += 1
                expected[sent] = text = f"{sent}:".ljust(self.chance.choice(self.kind.sizes), "abcdefg "[sent % 8])
                await self.send(socket, text)
            began = time.monotonic()
            while self.sequence.last < sent or self.sequence.missing:
                self.compare(await asyncio.wait_for(socket.recv(decode=True), TIMEOUT), expected)
            self.toll.slowest = max(self.toll.slowest, time.monotonic() - began)

    async def send(self, socket: ClientConnection, text: str) -> None:
        if not self.kind.fragments:
            await socket.send(text)
            return
        size = -(-len(text) // self.kind.fragments)

        async def fragments() -> AsyncIterator[str]:
            for place in range(0, len(text), size):
                yield text[place : place + size]
                await socket.ping()
                await asyncio.sleep(0.002)

        await socket.send(fragments())

    def compare(self, got: str | bytes, expected: dict[int, str]) -> None:
        number = int(str(got).partition(":")[0])
        if number in expected and got != expected[number]:
            self.toll.wrong += 1
        self.sequence.take(number)


class _Once(_WebSocket):
    """Each answer tells the state, too."""

    def compare(self, got: str | bytes, expected: dict[int, str]) -> None:
        state, _, text = str(got).partition(">")
        number = int(text.partition(":")[0])
        if text != expected.get(number, text) or int(state) != number - 1:
            self.toll.wrong += 1
        self.sequence.take(number)


class _Commit(_WebSocket):
    """An answer may be lost behind its commit: a resumed connection tells what was committed."""

    def compare(self, got: str | bytes, expected: dict[int, str]) -> None:
        number, _, text = str(got).partition(":")
        if text != "committed":
            super().compare(got, expected)
        elif int(number) > self.sequence.last:
            self.sequence.take(int(number))


class _Feed(_WebSocket):
    """Only reads."""

    async def converse(self, socket: ClientConnection) -> None:
        while not self.clients.stopping.is_set():
            text = str(await asyncio.wait_for(socket.recv(), TIMEOUT))
            self.sequence.take(int(text.partition(":")[0]))
            self.toll.wrong += not text.endswith(":fed")


class _Slow(_WebSocket):
    """Reads late, from a small buffer."""

    small = True

    async def converse(self, socket: ClientConnection) -> None:
        sent, (count, size) = 0, MUCH
        while not await self.rest():
            sent += 1
            await socket.send(f"{sent}:{count}:{size}")
            self.sequence = Sequence(self.toll, -1)
            while self.sequence.last < count - 1 or self.sequence.missing:
                await asyncio.sleep(SLOW_READ)
                text = str(await asyncio.wait_for(socket.recv(), TIMEOUT))
                number = text.partition(":")[0]
                self.toll.wrong += text != f"{number}:".ljust(size, "x")
                self.sequence.take(int(number))


class _Pings(_WebSocket):
    """Sends pings between its messages, and waits for each pong."""

    async def send(self, socket: ClientConnection, text: str) -> None:
        for _ in range(3):
            async with asyncio.timeout(TIMEOUT):
                await (await socket.ping())
            self.toll.pongs += 1
        await socket.send(text)


_STYLES: dict[str, type[_Client]] = {
    "with_next": _Once,
    "with_next, pipelined": _Once,
    "commit": _Commit,
    "feed": _Feed,
    "slow reader": _Slow,
    "pings": _Pings,
}


class _Events(_Client):
    """An event stream, whose client connects again with the last id, as an EventSource does."""

    last = 0

    async def once(self) -> None:
        reader, writer = await asyncio.open_connection(sock=await connected(self.storm))
        try:
            self.sequence = Sequence(self.toll, self.last)
            head = f"GET /live/{self.kind.path}/{self.name}-{self.number} HTTP/1.1\r\nHost: localhost\r\n"
            if self.last:
                head += f"Last-Event-ID: {self.last}\r\n"
            writer.write(f"{head}Accept: text/event-stream\r\n\r\n".encode())
            await self.read(reader)
        finally:
            self.last = self.sequence.last
            writer.close()

    async def read(self, reader: asyncio.StreamReader) -> None:
        def within(due: Awaitable[bytes]) -> Awaitable[bytes]:
            return asyncio.wait_for(due, TIMEOUT)

        head = await within(reader.readuntil(b"\r\n\r\n"))
        if not head.startswith(b"HTTP/1.1 200"):
            raise OSError(f"status {head[9:12]!r}")
        text = b""
        while text or not self.clients.stopping.is_set():
            size = await within(reader.readline())
            if size in {b"", b"0\r\n"}:
                raise EOFError("the stream has ended")
            text += (await within(reader.readexactly(int(size, 16) + 2)))[:-2]
            *whole, text = text.split(b"\n\n")
            for event in whole:
                number = int(event.partition(b"\n")[0].removeprefix(b"id: "))
                self.toll.wrong += event != b"id: %d\ndata: event %d" % (number, number)
                self.sequence.take(number)


def _run(storm: Storm, end: Connection) -> dict[str, Toll]:
    gc.enable()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(Clients(storm).run(end))


def storming(storm: Storm) -> AbstractContextManager[Running]:
    """Run clients in a process of their own; `Running.stop` returns a `Toll` by kind."""
    return in_child(lambda end: _run(storm, end), 3 * TIMEOUT)
