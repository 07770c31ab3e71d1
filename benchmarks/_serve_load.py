"""The clients of serve.py: one process, one epoll, raw sockets, so that they take little processor time.

They check every answer: status, length and bytes. They count failures by kind, and then try again.
"""

from __future__ import annotations

import errno
import gc
import heapq
import multiprocessing
import re
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from _instructions_load import POST, PRICED, TEXT, UPGRADE, frame
from _serve_processes import HOST, processor_time

FORK = multiprocessing.get_context("fork")
TIMEOUT = 5.0  # seconds without an answer
RECOVERY = 0.01  # seconds before a client that failed tries again
TICK = 0.25  # seconds between two looks for timeouts
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
READ = select.EPOLLIN | select.EPOLLRDHUP
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n%b\r\n"
KINDS = {errno.ECONNREFUSED: "refused", errno.ECONNRESET: "reset", errno.EPIPE: "reset"}


@dataclass(frozen=True)
class Talk:
    """What clients send, and the answer that they expect: an HTTP response with this body, or these bytes."""

    request: bytes
    body: bytes = TEXT
    upgrades: bool = False  # to a WebSocket, on which `body` is the whole answer
    keeps: bool = True  # one connection for all requests


TALKS = {
    "keep-alive": Talk(GET % b""),
    "connection per request": Talk(GET % b"Connection: close\r\n", keeps=False),
    "websocket": Talk(frame(1, TEXT), b"\x81%c%b" % (len(TEXT), TEXT), upgrades=True),
    "fastapi": Talk(POST, PRICED),
}


@dataclass(frozen=True)
class Load:
    port: int
    seconds: float
    busy: int = 0  # clients that send the next request at once
    calm: int = 0  # clients that wait for `pause` seconds first
    pause: float = 0.005
    talk: Talk = TALKS["keep-alive"]
    warmup: float = 0.0  # seconds that are not measured; errors count, too
    watched: tuple[int, ...] = ()  # processes whose processor time is measured


@dataclass
class Found:
    requests: int = 0
    seconds: float = 0.0
    p50: float = 0.0  # seconds, like the next two
    p99: float = 0.0
    slowest: float = 0.0
    reconnects: int = 0  # connections that were opened because the one before ended between two requests
    failed: Counter[str] = field(default_factory=Counter)  # refused, reset, early end, wrong, timeout, other
    cpu: dict[int, float] = field(default_factory=dict)  # processor time of each watched process, in seconds
    own_cpu: float = 0.0  # processor time of the clients, in seconds

    def tell_times(self, times: list[float]) -> None:
        times.sort()
        self.requests = len(times)
        if times:
            self.p50, self.p99, self.slowest = times[len(times) // 2], times[len(times) * 99 // 100], times[-1]


class _Client:
    __slots__ = ("answer", "began", "pause", "sock")

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self.began = 0.0  # 0: no request is in progress
        self.answer = b""
        self.sock: socket.socket | None = None


def _closes(answer: bytes, talk: Talk) -> bool | None:
    """Whether the server announces that it closes; None while the answer is incomplete. ValueError: wrong."""
    if talk.upgrades:
        head, body = b"", answer
    else:
        head, found, body = answer.partition(b"\r\n\r\n")
        if not found:
            return None
        length = LENGTH.search(head)
        if not head.startswith(b"HTTP/1.1 200") or not length or int(length[1]) != len(talk.body):
            raise ValueError(head)
    if body == talk.body:
        return bool(CLOSES.search(head))
    if talk.body.startswith(body):
        return None
    raise ValueError(body)


def _upgrade(sock: socket.socket) -> None:
    """Open a WebSocket on a connection. ConnectionResetError: the server does not answer as it should."""
    sock.settimeout(TIMEOUT)
    sock.sendall(UPGRADE)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise ConnectionResetError
        answer += byte
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise ConnectionResetError
    sock.setblocking(False)


class _Clients:
    def __init__(self, load: Load) -> None:
        self.load, self.found, self.times = load, Found(), list[float]()
        self.talk = load.talk
        self.epoll = select.epoll()
        self.at: dict[int, _Client] = {}  # keys are descriptor numbers
        self.resting: list[tuple[float, int, _Client]] = []
        self.known: dict[bytes, bool] = {}  # `_closes` of right answers: most repeat for a second
        self.clients = [_Client(0.0) for _ in range(load.busy)] + [_Client(load.pause) for _ in range(load.calm)]

    def connected(self, client: _Client) -> socket.socket:
        sock = client.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.at[sock.fileno()] = client
        self.epoll.register(sock, READ)
        with suppress(BlockingIOError):  # on loopback it is connected at once, unless the backlog is full
            sock.connect((HOST, self.load.port))
        if self.talk.upgrades:
            _upgrade(sock)
        return sock

    def ask(self, client: _Client) -> None:
        client.began, client.answer = time.monotonic(), b""
        try:
            sock = client.sock or self.connected(client)
            try:
                sock.send(self.talk.request)
            except BlockingIOError:
                self.epoll.modify(sock, select.EPOLLOUT)
        except OSError as error:
            self.fail(client, KINDS.get(error.errno or 0, "other"))

    def hang_up(self, client: _Client) -> None:
        if client.sock is not None:
            del self.at[client.sock.fileno()]
            client.sock.close()
            client.sock = None

    def rest(self, client: _Client, seconds: float) -> None:
        client.began = 0.0
        heapq.heappush(self.resting, (time.monotonic() + seconds, id(client), client))

    def fail(self, client: _Client, kind: str) -> None:
        self.hang_up(client)
        if client.began:
            self.found.failed[kind] += 1
            self.rest(client, RECOVERY)
        else:  # it ended between two requests: nothing is lost
            self.found.reconnects += 1

    def done(self, client: _Client, closed: bool) -> None:
        self.times.append(time.monotonic() - client.began)
        if closed:
            self.found.reconnects += self.talk.keeps
            self.hang_up(client)
        if client.pause:
            self.rest(client, client.pause)
        else:
            self.ask(client)

    def ready(self, client: _Client, event: int) -> None:
        assert client.sock is not None
        try:
            if event & select.EPOLLOUT:
                client.sock.send(self.talk.request)
                self.epoll.modify(client.sock, READ)
                return
            data = client.sock.recv(65536)
        except OSError as error:
            self.fail(client, KINDS.get(error.errno or 0, "other"))
            return
        self.heard(client, data, not data or bool(event & select.EPOLLRDHUP))

    def heard(self, client: _Client, data: bytes, ended: bool) -> None:
        if not client.began:
            if data:  # and no request is in progress
                self.found.failed["wrong"] += 1
            self.fail(client, "early end")
            return
        answer = client.answer = client.answer + data
        try:
            closes = self.known.get(answer)
            if closes is None and (closes := _closes(answer, self.talk)) is not None:
                self.known[answer] = closes
        except ValueError:
            self.fail(client, "wrong")
            return
        if closes is None:
            if ended:
                self.fail(client, "early end")
        elif ended or self.talk.keeps:  # a client that does not keep the connection waits for its end
            self.done(client, ended or closes)

    def look_for_timeouts(self) -> None:
        late = time.monotonic() - TIMEOUT
        for client in self.clients:
            if client.began and client.began < late:
                self.fail(client, "timeout")

    def go_on(self, seconds: float, stop: Connection) -> None:
        """Run until the time is over, or until something comes on `stop`."""
        deadline, tick = time.monotonic() + seconds, 0.0
        while (now := time.monotonic()) < deadline:
            due = min(deadline, tick, self.resting[0][0] if self.resting else deadline)
            for number, event in self.epoll.poll(max(0.0, due - now)):
                if number == stop.fileno():
                    return
                self.ready(self.at[number], event)
            now = time.monotonic()
            while self.resting and self.resting[0][0] <= now:
                self.ask(heapq.heappop(self.resting)[2])
            if now >= tick:
                tick = now + TICK
                self.look_for_timeouts()

    def run(self, stop: Connection) -> Found:
        self.epoll.register(stop, select.EPOLLIN)
        for client in self.clients:
            self.ask(client)
        self.go_on(self.load.warmup, stop)
        self.times = []
        before = {pid: processor_time(pid) for pid in self.load.watched}
        began, own = time.monotonic(), time.process_time()
        self.go_on(self.load.seconds, stop)
        found = self.found
        found.cpu = {pid: processor_time(pid) - then for pid, then in before.items()}
        found.seconds, found.own_cpu = time.monotonic() - began, time.process_time() - own
        found.tell_times(self.times)
        for client in self.clients:
            self.hang_up(client)
        return found


class Running:
    """Clients that run in a process of their own."""

    def __init__(self, end: Connection, patience: float) -> None:
        self._end, self._patience = end, patience

    def stop(self) -> Any:
        self._end.send(None)
        return self.wait()

    def wait(self) -> Any:
        if not self._end.poll(self._patience):
            raise TimeoutError("the clients did not end")
        return self._end.recv()


@contextmanager
def in_child(run: Callable[[Connection], Any], patience: float) -> Iterator[Running]:
    ours, theirs = FORK.Pipe()

    def child() -> None:
        ours.close()
        gc.disable()  # this code makes no reference cycles
        theirs.send(run(theirs))

    process = FORK.Process(target=child, daemon=True)
    process.start()
    theirs.close()
    try:
        yield Running(ours, patience)
    finally:
        process.terminate()
        process.join()
        ours.close()


def clients(load: Load) -> AbstractContextManager[Running]:
    return in_child(lambda end: _Clients(load).run(end), load.warmup + load.seconds + 10)


def measured(**load: Any) -> Found:
    with clients(Load(**load)) as running:
        found: Found = running.wait()
        return found
