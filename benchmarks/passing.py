"""What a pass costs: fdpass against bare sendmsg/recvmsg, the standard library, anyio and C, in pairs.

    python benchmarks/passing.py [--rounds 7] [--seconds 0.04] [--only TEXT] [--json]

A sender process sends messages to a receiver process, which closes the descriptors. The two sides of a pair take
turns within a round, and the ratio is taken within a round. README.md says how to read it.
"""

from __future__ import annotations

import argparse
import array
import asyncio
import ctypes
import errno
import inspect
import json
import multiprocessing
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import reduction
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

import anyio
import uvloop
from anyio.abc import UNIXSocketStream

import fdpass

DATA = b"x"
BUFSIZE = 65536  # the default of recv_fds; every side whose buffer size can be chosen uses it
COUNTS = (1, 8, 64, 253)
MOST = max(COUNTS)
ROOM = socket.CMSG_SPACE(4 * MOST)
CPUS = sorted(os.sched_getaffinity(0))
GOALS = {  # (ours / theirs, descriptors a message): the least ratio of rates
    ("send_fds / bare", 1): 0.75,
    ("send_fds / bare", MOST): 0.9,
    ("Channel / bare", 1): 0.7,
    ("send_fds / C", MOST): 0.75,
}
HEADING = f"""{"":52}ratio of rates,     messages a second    CPU  µs a message
{"ours / theirs":46}{"fds":>4} median (least to greatest)  ours   theirs  ratio    ours  theirs"""
ROW = (
    "{pair:46}{count:4}{ratio:7.2f} ({least:.2f} to {greatest:.2f})"
    "{our_rate:11.0f}{their_rate:9.0f}{cpu_ratio:7.2f}{our_cpu:8.1f}{their_cpu:8.1f}"
)
SEQPACKET, STREAM = socket.SOCK_SEQPACKET, socket.SOCK_STREAM
FORK = multiprocessing.get_context("fork")


Clock = AbstractContextManager[None]
Step = Callable[..., Any]  # sends or receives one message; gets the socket (or what wraps it) and the descriptors
Drive = Callable[[Any, Step, list[int], int, Clock], None]


@contextmanager
def clock_of(barrier: Barrier, stamps: list[float]) -> Iterator[None]:
    barrier.wait(30)  # both processes start at the same time
    cpu, began = time.process_time(), time.monotonic()
    yield
    stamps += [began, time.monotonic(), time.process_time() - cpu]


def wait_out(error: Exception) -> None:
    """Wait if too many descriptors are in flight, which anyio reports by another error. Raise all other errors."""
    if errno.ETOOMANYREFS not in (getattr(error, "errno", None), getattr(error.__cause__, "errno", None)):
        raise error
    time.sleep(1e-4)


def repeat(end: Any, step: Step, fds: list[int], messages: int, clock: Clock) -> None:
    with clock:
        while messages:
            try:
                step(end, fds)
                messages -= 1
            except OSError as error:
                wait_out(error)


def on(loop: Callable[[], asyncio.AbstractEventLoop]) -> Drive:
    async def main(made: Any, step: Step, fds: list[int], messages: int, clock: Clock) -> None:
        end = await made if inspect.isawaitable(made) else made
        with clock:
            while messages:
                try:
                    await step(end, fds)
                    messages -= 1
                except Exception as error:
                    wait_out(error)

    def drive(made: Any, step: Step, fds: list[int], messages: int, clock: Clock) -> None:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(main(made, step, fds, messages, clock))

    return drive


def in_c(sock: Any, function: Step, fds: list[int], messages: int, clock: Clock) -> None:
    numbers = (ctypes.c_int * len(fds))(*fds)
    with clock:
        failed = function(sock.fileno(), numbers, len(fds), ctypes.c_long(messages))
    if failed:
        raise OSError(failed, os.strerror(failed))


@dataclass(frozen=True)
class Side:
    name: str
    send: Step
    receive: Step
    wrap: Callable[[socket.socket], Any] = lambda sock: sock
    drive: Drive = repeat
    kind: socket.SocketKind = SEQPACKET


@dataclass(frozen=True)
class Pair:
    ours: Side
    theirs: Side
    counts: tuple[int, ...] = COUNTS


def bare_send(sock: socket.socket, fds: list[int]) -> None:
    sock.sendmsg([DATA], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


def bare_receive(sock: socket.socket, _: list[int], *, row: bool = False) -> None:
    for _level, _kind, content in sock.recvmsg(BUFSIZE, ROOM, socket.MSG_CMSG_CLOEXEC)[1]:
        fds = array.array("i", content)
        if row:
            os.closerange(fds[0], fds[-1] + 1)
        else:
            for fd in fds:
                os.close(fd)


def stdlib_receive(sock: socket.socket, _: list[int]) -> None:
    for fd in socket.recv_fds(sock, BUFSIZE, MOST)[1]:
        os.close(fd)


def reduction_receive(sock: socket.socket, _: list[int]) -> None:
    for fd in reduction.recvfds(sock, MOST):
        os.close(fd)


def on_loop(loop: str, drive: Drive, kind: socket.SocketKind, note: str = "") -> Pair:
    async def receive(channel: fdpass.AsyncChannel, _: list[int]) -> None:
        (await channel.recv()).close()

    async def anyio_receive(stream: UNIXSocketStream, _: list[int]) -> None:
        for fd in (await stream.receive_fds(BUFSIZE, MOST))[1]:
            os.close(fd)

    send, anyio_send = lambda c, fds: c.send(DATA, fds), lambda s, fds: s.send_fds(DATA, fds)
    ours = Side(f"AsyncChannel{note}, {loop}", send, receive, fdpass.AsyncChannel, drive, kind)
    return Pair(ours, Side("anyio", anyio_send, anyio_receive, UNIXSocketStream.from_socket, drive, STREAM))


def c_sides() -> Iterator[Side]:
    with tempfile.TemporaryDirectory() as folder:
        built, source = f"{folder}/passing.so", str(Path(__file__).with_suffix(".c"))
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", built, source], check=True)
        library = ctypes.CDLL(built)
    yield Side("C", library.send_messages, library.receive_and_close_each, drive=in_c)
    yield Side("C, close_range", library.send_messages, library.receive_and_close_row, drive=in_c)


PLAIN = Side(
    "send_fds", lambda s, fds: fdpass.send_fds(s, DATA, fds), lambda s, _: fdpass.recv_fds(s, BUFSIZE).close()
)
CHANNEL = Side("Channel", lambda c, fds: c.send(DATA, fds), lambda c, _: c.recv().close(), fdpass.Channel)
BARE = Side("bare", bare_send, bare_receive)


def pairs() -> Iterator[Pair]:
    yield Pair(PLAIN, BARE)
    yield Pair(PLAIN, Side("bare, closerange", bare_send, partial(bare_receive, row=True)))
    yield Pair(CHANNEL, BARE)
    yield Pair(PLAIN, Side("socket.send_fds", lambda s, fds: socket.send_fds(s, [DATA], fds), stdlib_receive))
    yield Pair(PLAIN, Side("reduction.sendfds", reduction.sendfds, reduction_receive))
    handle = Side(
        "reduction.send_handle",
        lambda c, fds: reduction.send_handle(c, fds[0], 0),
        lambda c, _: os.close(reduction.recv_handle(c)),
        lambda s: Connection(s.detach()),
        kind=STREAM,
    )
    yield Pair(replace(PLAIN, name="send_fds (stream)", kind=STREAM), handle, (1,))
    for side in c_sides():
        yield Pair(PLAIN, side)
    for loop, drive in (("asyncio", on(asyncio.new_event_loop)), ("uvloop", on(uvloop.new_event_loop))):
        yield on_loop(loop, drive, SEQPACKET)
        yield on_loop(loop, drive, STREAM, " (stream)")


def passed() -> int:
    return sum(os.path.realpath(f"/proc/self/fd/{fd}") == os.devnull for fd in os.listdir("/proc/self/fd"))


def fill_holes() -> None:
    highest = max(map(int, os.listdir("/proc/self/fd")))
    while os.open(os.devnull, os.O_RDONLY) < highest:
        pass  # so that received descriptors have neighbouring numbers, in every measured process


def measured(side: Side, fds: list[int], messages: int) -> tuple[float, float]:
    """Messages a second, and microseconds of processor time a message of both processes."""
    ends = socket.socketpair(socket.AF_UNIX, side.kind)
    barrier, results = FORK.Barrier(2), FORK.SimpleQueue()

    def child(role: int) -> None:
        ends[1 - role].close()
        fill_holes()
        os.sched_setaffinity(0, {CPUS[role % len(CPUS)]})
        before, stamps = passed(), list[float]()
        step = (side.send, side.receive)[role]
        side.drive(side.wrap(ends[role]), step, fds, messages, clock_of(barrier, stamps))
        if passed() > before:
            raise RuntimeError(f"{side.name} leaves descriptors open")
        results.put((role, *stamps))

    children = [FORK.Process(target=child, args=(role,)) for role in (0, 1)]
    for process in children:
        process.start()
    for end in ends:
        end.close()
    for process in children:
        process.join()
    if any(process.exitcode for process in children):
        raise RuntimeError(f"{side.name}, {len(fds)} descriptors: failed, see above")
    (_, began, _, sender), (_, _, ended, receiver) = sorted(results.get() for _ in children)
    return messages / (ended - began), (sender + receiver) / messages * 1e6


def compared(pair: Pair, fds: list[int], rounds: int, seconds: float) -> dict[str, Any]:
    sides = (pair.ours, pair.theirs)
    # A run that is not counted tells how many messages fill the time; 500 at least, because it may have stalled.
    messages = [max(500, int(measured(side, fds, 1000)[0] * seconds)) for side in sides]
    samples: tuple[list[tuple[float, float]], ...] = ([], [])
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            samples[which].append(measured(sides[which], fds, messages[which]))
    (our_rates, our_cpu), (their_rates, their_cpu) = (zip(*of, strict=True) for of in samples)
    ratios = list(map(truediv, our_rates, their_rates))
    name = f"{pair.ours.name} / {pair.theirs.name}"
    goal = 2.0 if name.startswith("AsyncChannel") else GOALS.get((name, len(fds)))
    found: dict[str, Any] = {"pair": name, "count": len(fds), "goal": goal}
    found |= {"ratio": median(ratios), "least": min(ratios), "greatest": max(ratios)}
    found |= {"our_rate": median(our_rates), "their_rate": median(their_rates)}
    found |= {"our_cpu": median(our_cpu), "their_cpu": median(their_cpu)}
    return found | {"cpu_ratio": median(map(truediv, our_cpu, their_cpu))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.04, help="approximate seconds of each measurement")
    parser.add_argument("--only", default="", help="only pairs with this text in their names")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(MOST)]
    out = sys.stderr if options.json else sys.stdout
    place = f"Python {platform.python_version()}, Linux {platform.release()}, {len(CPUS)} processors"
    print(f"{place}; {options.rounds} rounds\n{HEADING}", file=out)
    anyio.run(anyio.sleep, 0)  # loads anyio's backend before the clock of any process runs
    results = []
    for pair in pairs():
        for count in pair.counts if options.only in f"{pair.ours.name} / {pair.theirs.name}" else ():
            results.append(compared(pair, fds[:count], options.rounds, options.seconds))
            print(ROW.format(**results[-1]), file=out, flush=True)
    print("\nGoals, of the median ratio of rates:", file=out)
    for one in results:
        if one["goal"]:
            word = "reached" if one["ratio"] >= one["goal"] else "NOT REACHED"
            print("  {pair}, {count} a message: {ratio:.2f}, goal {goal}:".format(**one), word, file=out)
    if options.json:
        print(json.dumps({"on": place, "pairs": results}, indent=1))


if __name__ == "__main__":
    main()
