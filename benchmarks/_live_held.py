"""Thousands of held WebSockets for live_storm.py: memory for each, and how soon others have resumed them."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from _serve_processes import HOST, pss
from _storm_idle import GRACE, LONGEST, Held, held_by, rehomed
from _storm_servers import Ward

HANDSHAKE = (
    "GET /{path}/held/{name} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
ASK = b"\x81\x81\x00\x00\x00\x00x"  # a text frame, masked with zeros: RFC 6455, 5.3
REST = 0.5  # seconds for all applications to ask for the next message: else their clients get a 1012 at a kill
TEXT, PING, PONG = 0x81, 0x89, 0x8A  # first bytes of frames
Row = dict[str, Any]


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        if not (more := sock.recv(count - len(data))):
            raise ConnectionError("early end")
        data += more
    return data


def _open(port: int, source: str, path: str, number: int) -> socket.socket:
    sock = socket.create_connection((HOST, port), GRACE, (source, 0))
    sock.sendall(HANDSHAKE.format(path=path, name=number).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += _exactly(sock, 1) if b"\r\n\r\n" in head else sock.recv(4096)
    if not head.startswith(b"HTTP/1.1 101"):
        raise ConnectionError(f"no WebSocket: {head[:60]!r}")
    return sock


def _message(sock: socket.socket) -> bytes:
    """The next message; pings before it are answered."""
    while True:
        first, size = _exactly(sock, 2)
        payload = _exactly(sock, size)
        if first == TEXT:
            return payload
        if first != PING:
            raise ValueError(f"not an answer: {first:#x} {payload!r}")
        sock.sendall(bytes([PONG, 0x80 | size, 0, 0, 0, 0]) + payload)


def _ask_all(socks: list[socket.socket]) -> tuple[Counter[int], Counter[str]]:
    """How many messages each worker answered, and how many failed, by kind."""
    pids, failed = Counter[int](), Counter[str]()
    for sock in socks:
        with suppress(OSError):  # a failure is counted when the answer should come
            sock.sendall(ASK)
    for sock in socks:
        try:
            pids[int(_message(sock))] += 1
        except (OSError, ValueError) as error:
            failed[str(error)] += 1
    return pids, failed


def _answer_pings(socks: dict[int, socket.socket], epoll: select.epoll, seconds: float) -> bool:
    """Answer the pings that come within ``seconds``: a client that does not is disconnected after 40 s.

    Returns:
        Whether something else was ready, which is not a WebSocket.
    """
    others = False
    for number, _ in epoll.poll(seconds):
        if number not in socks:
            others = True
            continue
        try:
            sock = socks[number]
            sock.settimeout(GRACE)
            first, size = _exactly(sock, 2)
            payload = _exactly(sock, size)
            if first == PING:
                sock.sendall(bytes([PONG, 0x80 | size, 0, 0, 0, 0]) + payload)
        except OSError:  # that is counted when an answer should come
            epoll.unregister(number)
    return others


def _hold(end: Connection, port: int, count: int, source: str, path: str) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    socks = dict[int, socket.socket]()
    epoll = select.epoll()
    epoll.register(end, select.EPOLLIN)
    for number in range(count):
        sock = _open(port, source, path, number)
        socks[sock.fileno()] = sock
        epoll.register(sock, select.EPOLLIN)
        _answer_pings(socks, epoll, 0)
    end.send(None)
    while True:
        while not _answer_pings(socks, epoll, -1):
            pass
        end.recv()
        for sock in socks.values():
            sock.settimeout(LONGEST)
        end.send(_ask_all(list(socks.values())))


def memory(ward: Ward) -> Row:
    """Bytes: PSS of the workers, what no process shares with them, and the pages of the server's memfds."""
    pids = [each["pid"] for each in ward.status()["workers"]]
    shared, folder = dict[int, int](), Path(f"/proc/{ward.pid}/fd")  # bytes by inode: it has some twice
    for entry in os.listdir(folder):
        with suppress(FileNotFoundError):
            if os.readlink(folder / entry).startswith("/memfd:"):
                about = os.stat(folder / entry)
                shared[about.st_ino] = about.st_blocks * 512
    return {"PSS": sum(map(pss, pids)), "private": sum(map(_private, pids)), "shared": sum(shared.values())}


def _private(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line.split() for line in lines if line.startswith("RssAnon:"))[1])


def _ready(ward: Ward, count: int) -> None:
    ward.wait(
        lambda told: (
            [each["state"] for each in told["workers"]] == ["ready"] * ward.server.workers
            and told["connections"]["live"] == count
        ),
        "the workers are ready",
        LONGEST,
    )


def event(ward: Ward, held: Held, kind: str, count: int) -> Row:
    """`kill` the worker with the most WebSockets, or `reload`; then, at once, send a message on each WebSocket."""
    told = ward.status()
    holders = {each["pid"]: each["connections"] for each in told["workers"] if each["connections"]}
    before = told["connections"]
    if kind == "reload":
        row = rehomed(ward, count, kind)
        old = set(row.pop("old"))
        began = time.monotonic()
    else:
        victim = max(holders, key=lambda pid: holders[pid])
        old, row = {victim}, {"connections": holders[victim]}
        began = time.monotonic()
        os.kill(victim, signal.SIGKILL)
    pids, failed = held.ask(2 * LONGEST)
    ended = time.monotonic()
    after = ward.status()["connections"]
    return row | {
        "event": kind,
        "all answered": ended - began,
        "answered": sum(pids.values()),
        "by the old": sum(some for pid, some in pids.items() if pid in old),
        "failed": dict(failed),
        "resumed": after["resumed"] - before["resumed"],
        "new": after["accepted"] - before["accepted"],
    }


def mass(ward: Ward, count: int, path: str, events: tuple[str, ...]) -> Iterator[Row]:
    """Memory for each WebSocket; then each of the events."""
    before = memory(ward)
    with held_by(_hold, ward.server.port, count, "127.0.3", path) as held:
        _ready(ward, count)
        after = memory(ward)
        pids, failed = held.ask(2 * LONGEST)
        if failed or sum(pids.values()) != count:
            raise RuntimeError(f"not all of {count} clients were answered in the first place: {failed}")
        yield {"path": path, "event": "hold", "connections": count} | {
            name: (after[name] - before[name]) / count for name in after
        }
        for kind in events:
            _ready(ward, count)
            time.sleep(REST)
            yield {"path": path} | event(ward, held, kind, count)
