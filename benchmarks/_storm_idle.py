"""Thousands of idle connections for kill_storm.py: how soon other workers have them after a kill or a reload."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from _serve_load import FORK
from _serve_processes import HOST, processor_time
from _storm_servers import Ward

EACH = 2500  # connections of one process, and of one source address
AT_ONCE = 100  # connections on which a process has a request in progress
ASK = b"GET /pid HTTP/1.1\r\nHost: localhost\r\n\r\n"
GRACE = 10.0  # seconds for an answer
LONGEST = 120.0  # seconds for all answers
SPARE = 600  # descriptors that the dispatcher needs besides those of connections


def _answer(sock: socket.socket) -> int:
    """The pid in an answer. OSError, ValueError: it is not an answer."""
    answer = b""
    while b"\r\n\r\n" not in answer or not answer.partition(b"\r\n\r\n")[2]:
        if not (data := sock.recv(4096)):
            raise ConnectionError("early end")
        answer += data
    if not answer.startswith(b"HTTP/1.1 200"):
        raise ValueError(f"not an answer: {answer[:60]!r}")
    return int(answer.partition(b"\r\n\r\n")[2])


def _ask_all(socks: list[socket.socket]) -> tuple[Counter[int], Counter[str]]:
    """How many requests each worker answered, and how many failed, by kind."""
    pids, failed = Counter[int](), Counter[str]()
    for first in range(0, len(socks), AT_ONCE):
        some = socks[first : first + AT_ONCE]
        for sock in some:
            with suppress(OSError):  # a failure is counted when the answer should come
                sock.sendall(ASK)
        for sock in some:
            try:
                pids[_answer(sock)] += 1
            except (OSError, ValueError) as error:
                failed[str(error)] += 1
    return pids, failed


def hold(end: Connection, port: int, count: int, source: str) -> None:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
    socks = [socket.create_connection((HOST, port), GRACE, (source, 0)) for _ in range(count)]
    end.send(None)
    while True:
        end.recv()
        end.send(_ask_all(socks))


class Held:
    """Connections that other processes have; none is ever opened anew."""

    def __init__(self) -> None:
        self.ends: list[Connection] = []

    def ask(self, patience: float = LONGEST) -> tuple[Counter[int], Counter[str]]:
        """Send a request on each connection: how many each worker answered, and what failed."""
        for end in self.ends:
            end.send(None)
        pids, failed = Counter[int](), Counter[str]()
        for end in self.ends:
            if not end.poll(patience):
                raise TimeoutError("held clients got no answers")
            some, wrong = end.recv()
            pids.update(some)
            failed.update(wrong)
        return pids, failed


@contextmanager
def held_by(hold: Callable[..., None], port: int, count: int, network: str, *more: Any) -> Iterator[Held]:
    """Let processes that run `hold` have so many connections, `EACH` from an address of its own in the network."""
    held, processes = Held(), []
    try:
        for number, done in enumerate(range(0, count, EACH)):
            ours, theirs = FORK.Pipe()
            arguments = (theirs, port, min(EACH, count - done), f"{network}.{number + 1}", *more)
            processes.append(FORK.Process(target=hold, args=arguments, daemon=True))
            processes[-1].start()
            theirs.close()
            held.ends.append(ours)
        for end in held.ends:
            if not end.poll(LONGEST):
                raise TimeoutError("held clients could not connect")
            end.recv()
        yield held
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _elsewhere(told: dict[str, Any], old: set[int]) -> int:
    return sum(each["connections"] for each in told["workers"] if each["pid"] not in old)


def _generation(told: dict[str, Any]) -> int:
    generation: int = told["server"]["generation"]
    return generation


def rehomed(ward: Ward, count: int, kind: str) -> dict[str, Any]:
    """`kill` the worker with the most connections, or `reload`: seconds until other workers have them all."""
    told = ward.status()
    holders = {each["pid"]: each["connections"] for each in told["workers"] if each["connections"]}
    worker = max(holders, key=lambda pid: holders[pid])
    old, before = ({worker} if kind == "kill" else set(holders)), _generation(told)
    others = [each["pid"] for each in told["workers"] if kind == "kill" and each["pid"] not in old]
    before_cpu = [processor_time(ward.pid), sum(map(processor_time, others))]
    began = time.monotonic()
    if kind == "kill":
        os.kill(worker, signal.SIGKILL)
        switched = began
    else:
        ward.reload()
        switched = ward.wait(lambda told: _generation(told) > before, "the next generation serves")
    ended = ward.wait(lambda told: _elsewhere(told, old) == count, f"{count} connections are elsewhere")
    cpu = [processor_time(ward.pid) - before_cpu[0], sum(map(processor_time, others)) - before_cpu[1]]
    return {
        "event": kind,
        "cpu": cpu,  # seconds, of the dispatcher and of the next workers (after a reload only of the dispatcher)
        "connections": sum(holders[pid] for pid in old),
        "old": sorted(old),
        "seconds": ended - switched,
        "since asked": ended - began,
    }


def moved(ward: Ward, idle: Held, count: int, kind: str) -> dict[str, Any]:
    """One event, and then a request on every connection."""
    row = rehomed(ward, count, kind)
    old = set(row.pop("old"))
    pids, failed = idle.ask()
    connections = ward.status()["connections"]
    return row | {
        "answered": sum(pids.values()),
        "by others": sum(some for pid, some in pids.items() if pid not in old),
        "failed": dict(failed),
        "accepted": connections["accepted"],
        "live": connections["live"],
    }


def all_moved(ward: Ward, count: int) -> Iterator[dict[str, Any]]:
    """Kill, reload, and kill once more."""
    with held_by(hold, ward.server.port, count, "127.0.2") as idle:
        pids, failed = idle.ask()
        if failed or sum(pids.values()) != count:
            raise RuntimeError(f"not all of {count} clients were answered in the first place: {failed}")
        for kind in ("kill", "reload", "kill"):
            ward.wait(
                lambda told: (
                    [each["state"] for each in told["workers"]] == ["ready"] * ward.server.workers
                    and told["connections"]["live"] == count
                ),
                "the workers are ready",
            )
            yield moved(ward, idle, count, kind)


def most(count: int) -> int:
    """As many of the ``count`` connections as this machine allows."""
    return min(count, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE)
