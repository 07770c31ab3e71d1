"""What a pass costs in instructions: one send and one receive of one descriptor, counted by callgrind.

    python benchmarks/passing_instructions.py [--only TEXT] [--functions 20]

The sides are those of passing.py. One process sends to itself and receives, so that no side waits: what it counts
hardly depends on how busy the machine is. The kernel's work is not counted. It needs valgrind, and five minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import nullcontext
from typing import Any

import passing
import uvloop
from _instructions_callgrind import functions

FEW, MANY = 500, 1500  # the difference is counted: what the start costs is in both


def sides() -> dict[str, passing.Side]:
    found = {"bare": passing.BARE, "send_fds": passing.PLAIN, "Channel": passing.CHANNEL}
    for loop, made in (("asyncio", asyncio.new_event_loop), ("uvloop", uvloop.new_event_loop)):
        pair = passing.on_loop(loop, passing.on(made), passing.SEQPACKET)
        found[pair.ours.name], found[f"anyio, {loop}"] = pair.ours, pair.theirs
    return found


def run(side: passing.Side, messages: int) -> None:
    ends = [side.wrap(end) for end in socket.socketpair(socket.AF_UNIX, side.kind)]

    def step(both: Any, fds: list[int]) -> None:
        side.send(both[0], fds)
        side.receive(both[1], fds)

    async def async_step(both: Any, fds: list[int]) -> None:
        await side.send(both[0], fds)
        await side.receive(both[1], fds)

    async def made() -> list[Any]:
        return [await end if inspect.isawaitable(end) else end for end in ends]

    fds = [os.open(os.devnull, os.O_RDONLY)]
    if side.drive is passing.repeat:
        side.drive(ends, step, fds, messages, nullcontext())
    else:
        side.drive(made(), async_step, fds, messages, nullcontext())


def counted(name: str, messages: int) -> Counter[str]:
    with tempfile.TemporaryDirectory() as folder:
        written = f"{folder}/counts"
        tool = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={written}"]
        command = [*tool, sys.executable, __file__, "--run", name, "--messages", str(messages)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "0"})
        with open(written, encoding="utf-8") as file:
            return functions(file.read())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only sides with this text in their names")
    parser.add_argument("--functions", type=int, default=0, help="print so many C functions of each side, too")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--messages", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(sides()[options.run], options.messages)
        return
    print("instructions of one send and one receive of one descriptor")
    for name in sides():
        if options.only in name:
            few, many = counted(name, FEW), counted(name, MANY)
            each = Counter({one: (many[one] - few[one]) / (MANY - FEW) for one in many})
            print(f"{name:30}{sum(each.values()):10.0f}", flush=True)
            for one, count in each.most_common(options.functions):
                print(f"{count:40.0f} {one}")


if __name__ == "__main__":
    main()
