"""The clients of kill_storm.py: each request has a token of its own, and every byte of its answer is compared.

One process, one epoll. Some clients keep their connection, every second of them with a pause between two
requests, and some open one per request. Failures are counted by kind; then the client connects anew.
"""

from __future__ import annotations

import errno
import heapq
import random
import re
import select
import socket
import time
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from _serve_load import Running, in_child
from _serve_processes import HOST

TIMEOUT = 10.0  # seconds without an answer
RECOVERY = 0.01  # seconds before a client that failed tries again
TICK = 0.25  # seconds between two looks for timeouts
REST = 0.005  # seconds between two requests of every second client that keeps its connection
NAPS = (0, 0, 0, 2)  # ms that the application sleeps
COUNTS = (1, 8, 64, 300)  # how many times an answer repeats the token
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
KINDS = {errno.ECONNREFUSED: "refused", errno.ECONNRESET: "reset", errno.EPIPE: "reset"}
GIVEN_UP = {"502", "reset", "cut"}  # permitted failures of a request that must not be repeated


@dataclass(frozen=True)
class Storm:
    port: int
    kept: int = 64  # clients that keep their connection
    brief: int = 16  # clients that open one per request
    post: bool = False
    seed: int = 0
    rest: float = 0.0  # seconds between two requests of each client; 0: see REST


@dataclass(frozen=True)
class Failure:
    token: str
    kind: str  # refused, reset, cut (a reset in an answer), early end, wrong, 502, status, timeout, other
    began: float  # by the monotonic clock, which all processes share
    ended: float


@dataclass
class Toll:
    requests: int = 0  # right answers
    p50: float = 0.0  # seconds, like the next two
    p99: float = 0.0
    worst: float = 0.0
    reconnects: int = 0  # by clients that keep their connection, for any reason
    failures: list[Failure] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)  # tokens, of POST only

    @property
    def kinds(self) -> Counter[str]:
        return Counter(failure.kind for failure in self.failures)


class _Client:
    def __init__(self, number: int, storm: Storm) -> None:
        self.number, self.post = number, storm.post
        self.keeps = number < storm.kept
        self.rest = storm.rest or (REST if self.keeps and number % 2 else 0.0)
        self.chance = random.Random(f"{storm.seed} {number}")
        self.serial = 0
        self.connects = 0
        self.sock: socket.socket | None = None
        self.began = 0.0  # 0: no request is in progress
        self.token = ""
        self.request = self.expected = self.answer = b""

    def think(self) -> None:
        """Make the next request, and the answer that it must get."""
        self.serial += 1
        self.token = f"{self.number:03d}x{self.serial:08d}"
        count, nap = self.chance.choice(COUNTS), 2 if self.post else self.chance.choice(NAPS)
        self.expected, self.answer = self.token.encode() * count, b""
        body = self.token if self.post else ""
        lines = [
            f"{'POST' if self.post else 'GET'} /t/{self.token}-{count}-{nap} HTTP/1.1",
            "Host: localhost",
            *([] if self.keeps else ["Connection: close"]),
            *([f"Content-Length: {len(body)}"] if self.post else []),
        ]
        self.request = "\r\n".join((*lines, "", body)).encode()

    def verdict(self) -> str | None:
        """`whole`, `last` if the connection ends with the answer, or the failure. None: it is incomplete."""
        head, found, body = self.answer.partition(b"\r\n\r\n")
        if not found:
            return None
        if not head.startswith(b"HTTP/1.1 200"):
            return "502" if head.startswith(b"HTTP/1.1 502") else "status"
        length = LENGTH.search(head)
        if not length or int(length[1]) != len(self.expected) or not self.expected.startswith(body):
            return "wrong"
        if len(body) < len(self.expected):
            return None
        return "last" if CLOSES.search(head) else "whole"


class _Clients:
    def __init__(self, storm: Storm) -> None:
        self.storm, self.toll, self.times = storm, Toll(), list[float]()
        self.epoll = select.epoll()
        self.at: dict[int, _Client] = {}  # keys are descriptor numbers
        self.resting: list[tuple[float, int, _Client]] = []
        self.stopping = False
        self.clients = [_Client(number, storm) for number in range(storm.kept + storm.brief)]

    def ask(self, client: _Client) -> None:
        if self.stopping:
            return
        client.think()
        client.began = time.monotonic()
        try:
            if client.sock is None:
                self.connect(client)
            assert client.sock is not None
            try:
                client.sock.send(client.request)
            except BlockingIOError:  # the backlog is full
                self.epoll.modify(client.sock, select.EPOLLOUT)
        except OSError as error:
            self.fail(client, KINDS.get(error.errno or 0, "other"))

    def connect(self, client: _Client) -> None:
        client.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.at[client.sock.fileno()] = client
        self.epoll.register(client.sock, select.EPOLLIN)
        client.connects += 1
        error = client.sock.connect_ex((HOST, self.storm.port))
        if error not in {0, errno.EINPROGRESS}:
            raise OSError(error, "connect")

    def hang_up(self, client: _Client) -> None:
        if client.sock is not None:
            del self.at[client.sock.fileno()]
            client.sock.close()
            client.sock = None

    def rest(self, client: _Client, seconds: float) -> None:
        client.began = 0.0
        heapq.heappush(self.resting, (time.monotonic() + seconds, client.number, client))

    def fail(self, client: _Client, kind: str) -> None:
        self.hang_up(client)
        if client.began:
            self.toll.failures.append(Failure(client.token, kind, client.began, time.monotonic()))
            self.rest(client, RECOVERY)

    def done(self, client: _Client) -> None:
        self.times.append(time.monotonic() - client.began)
        if client.post:
            self.toll.answered.append(client.token)
        client.began = 0.0
        if client.rest:
            self.rest(client, client.rest * client.chance.uniform(0.5, 1.5))
        else:
            self.ask(client)

    def ready(self, client: _Client, event: int) -> None:
        assert client.sock is not None
        try:
            if event & select.EPOLLOUT:
                client.sock.send(client.request)
                self.epoll.modify(client.sock, select.EPOLLIN)
                return
            data = client.sock.recv(65536)
        except OSError as error:
            kind = KINDS.get(error.errno or 0, "other")
            self.fail(client, "cut" if kind == "reset" and client.answer else kind)
            return
        if not client.began:
            self.unasked(client, data)
        else:
            client.answer += data
            self.judge(client, ended=not data)

    def unasked(self, client: _Client, data: bytes) -> None:
        """The connection ended between two requests, which costs a connect; or bytes came without a request."""
        self.hang_up(client)
        if data:
            now = time.monotonic()
            self.toll.failures.append(Failure(client.token, "wrong", now, now))

    def judge(self, client: _Client, *, ended: bool) -> None:
        verdict = client.verdict()
        if verdict in {"whole", "last"}:
            if client.keeps and verdict == "whole" and not ended:
                self.done(client)
            elif client.keeps or ended:  # a client that opens one per request waits for its end
                self.hang_up(client)
                self.done(client)
        elif verdict is not None:
            self.fail(client, verdict)
        elif ended:
            self.fail(client, "early end")

    def look_for_timeouts(self) -> None:
        late = time.monotonic() - TIMEOUT
        for client in self.clients:
            if client.began and client.began < late:
                self.fail(client, "timeout")

    def turn(self, tick: float) -> bool:
        """Handle the next events. False: no request is in progress, and no more will be sent."""
        now = time.monotonic()
        due = min(tick, self.resting[0][0] if self.resting else tick)
        for number, event in self.epoll.poll(max(0.0, due - now)):
            if client := self.at.get(number):
                self.ready(client, event)
            elif not self.stopping:
                self.stopping = True
                self.epoll.unregister(number)
        now = time.monotonic()
        while self.resting and self.resting[0][0] <= now:
            self.ask(heapq.heappop(self.resting)[2])
        return not self.stopping or any(client.began for client in self.clients)

    def run(self, stop: Connection) -> Toll:
        """Run until something comes on `stop`, and the requests in progress are answered."""
        self.epoll.register(stop, select.EPOLLIN)
        for client in self.clients:
            self.ask(client)
        tick = time.monotonic() + TICK
        while self.turn(tick):
            if time.monotonic() >= tick:
                tick = time.monotonic() + TICK
                self.look_for_timeouts()
        for client in self.clients:
            self.hang_up(client)
        return self.told()

    def told(self) -> Toll:
        toll, times = self.toll, sorted(self.times)
        toll.requests = len(times)
        toll.reconnects = sum(client.connects - 1 for client in self.clients if client.keeps)
        if times:
            toll.p50, toll.p99, toll.worst = times[len(times) // 2], times[len(times) * 99 // 100], times[-1]
        return toll


def storming(storm: Storm) -> AbstractContextManager[Running]:
    """Run clients in a process of their own; `Running.stop` returns a `Toll`."""
    return in_child(lambda end: _Clients(storm).run(end), 3 * TIMEOUT)
