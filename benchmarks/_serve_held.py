"""Held connections for serve.py: how many each worker has, and thousands of them in the background."""

from __future__ import annotations

import re
import select
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from _serve_load import FORK, Load, clients
from _serve_processes import HOST, Server, pss

STREAMS = 200
ASK_STREAM = b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n"
EVENT = re.compile(rb"data: (\d+)\n\n")
EACH = 5000  # connections of one holding process, and of one source address, whose ports would not suffice for all
AT_ONCE = 100  # connections that a holding process opens at a time
LONGEST = 120.0  # seconds for a holding process to open all of its connections
GRACE = 10.0  # seconds for a stream to begin or to end


def _asked(port: int, source: str) -> socket.socket:
    sock = socket.create_connection((HOST, port), GRACE, (source, 0))
    sock.sendall(ASK_STREAM)
    return sock


def _first_event(sock: socket.socket) -> int:
    """The pid in the first event of a stream."""
    answer = b""
    while not (event := EVENT.search(answer)):
        if not (data := sock.recv(4096)):
            raise ConnectionError(f"a stream ended before its first event: {answer[:100]!r}")
        answer += data
    if not answer.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(f"not a stream: {answer[:100]!r}")
    return int(event[1])


def open_streams(
    port: int, count: int, at_once: int, source: str = HOST
) -> tuple[list[socket.socket], Counter[int]]:
    """Open ``count`` streams, and count how many each worker has. The caller closes them."""
    streams, held = list[socket.socket](), Counter[int]()
    while len(streams) < count:
        batch = [_asked(port, source) for _ in range(min(at_once, count - len(streams)))]
        streams += batch
        held.update(_first_event(sock) for sock in batch)
    return streams, held


def end_streams(streams: list[socket.socket]) -> None:
    """Close the streams, and wait until the server has closed them, too: else they count in its next choice."""
    for sock in streams:
        sock.shutdown(socket.SHUT_WR)
    for sock in streams:
        with sock:
            while sock.recv(4096):
                pass


def spread(server: Server, at_once: int) -> list[int]:
    """How many of the streams each worker has, the greatest number first."""
    streams, held = open_streams(server.port, STREAMS, at_once)
    end_streams(streams)
    counts = sorted(held.values(), reverse=True)
    return counts + [0] * (server.workers - len(counts))


def alone(server: Server, seconds: float, wanted: tuple[str, ...]) -> dict[str, Any]:
    """While no other server runs: the streams of each worker, and memory after some load."""
    found: dict[str, Any] = {}
    with clients(Load(server.port, seconds, busy=32)) as running:
        running.wait()
    if "memory" in wanted:
        workers = [pss(pid) for pid in server.pids]
        found["memory"] = {"worker": sum(workers) / len(workers), "all": sum(map(pss, server.members))}
    if "held" in wanted:
        found["held"] = {"burst": spread(server, STREAMS), "one by one": spread(server, 1)}
    return found


def _hold(end: Connection, port: int, count: int, source: str) -> None:
    try:
        streams, held = open_streams(port, count, AT_ONCE, source)
    except OSError as error:
        end.send((f"{error}", Counter()))
        return
    end.send(("", held))
    end.recv()
    poll = select.poll()
    for sock in streams:
        poll.register(sock, select.POLLIN | select.POLLRDHUP)
    end.send(count - len(poll.poll(0)))  # a stream on which something came, if only its end, is no longer held


class Held:
    """Streams that other processes hold."""

    def __init__(self) -> None:
        self.ends: list[Connection] = []
        self.per_worker = Counter[int]()

    def still_open(self) -> int:
        """How many of the streams are still open. Call it once only."""
        for end in self.ends:
            end.send(None)
        return sum(end.recv() for end in self.ends)


@contextmanager
def holding(port: int, count: int) -> Iterator[Held]:
    """Hold ``count`` streams until the end of the context."""
    held, processes = Held(), []
    try:
        for number, done in enumerate(range(0, count, EACH)):
            ours, theirs = FORK.Pipe()
            arguments = (theirs, port, min(EACH, count - done), f"127.0.1.{number + 1}")
            processes.append(FORK.Process(target=_hold, args=arguments, daemon=True))
            processes[-1].start()
            held.ends.append(ours)
            error, per_worker = ours.recv() if ours.poll(LONGEST) else ("no answer", Counter())
            if error:
                raise RuntimeError(f"not as many as {done + arguments[2]} streams: {error}")
            held.per_worker.update(per_worker)
        yield held
    finally:
        for process in processes:
            process.terminate()
            process.join()
