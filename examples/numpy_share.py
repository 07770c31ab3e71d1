"""Hand a NumPy array to another process without copying it there: a sealed memfd over a channel.

Run it: the parent shares a million numbers, and a child, a new program that inherits only its end of the channel,
adds them up in place. It needs NumPy.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import Any

import numpy as np

import fdpass

Array = np.ndarray[Any, Any]


def send_array(channel: fdpass.Channel, array: Array) -> None:
    """Send an array: its bytes are copied once into sealed memory, and only the descriptor is passed."""
    array = np.ascontiguousarray(array)
    with fdpass.share(array, name="numbers") as memory:
        channel.send(json.dumps({"dtype": array.dtype.str, "shape": array.shape}).encode(), [memory])


def recv_array(channel: fdpass.Channel) -> Array:
    """Receive an array, read-only, in the same memory pages that the sender filled."""
    with channel.recv() as message:
        layout = json.loads(message.data)
        # The mapping lives as long as the array; the descriptor is not needed any more.
        return np.frombuffer(fdpass.view(message.fds[0]), layout["dtype"]).reshape(layout["shape"])


def mapped_file(array: Array) -> str:
    """The file that is mapped at the address of the array's elements."""
    place = array.ctypes.data
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            start, end = (int(number, 16) for number in line.split()[0].split("-"))
            if start <= place < end:
                return line.split(maxsplit=5)[5].strip()
    return "no file"


def child(number: int) -> None:
    """The child: receive the array, and report its sum and where it lies."""
    with fdpass.Channel(socket.socket(fileno=number), policy=fdpass.Policy(kinds={"memfd"}, count=1)) as channel:
        array = recv_array(channel)
        report = {"sum": float(array.sum()), "where": mapped_file(array), "writeable": array.flags.writeable}
        channel.send(json.dumps(report).encode())


def main() -> None:
    """Start the child, send it the array, and print its report."""
    array = np.arange(1_000_000, dtype=np.float64).reshape(1000, 1000)
    ours, theirs = fdpass.Channel.pair()
    with ours:
        with theirs:
            number = str(theirs.fileno())
            process = subprocess.Popen([sys.executable, __file__, "child", number], pass_fds=[theirs.fileno()])
        with process:
            send_array(ours, array)
            report = json.loads(ours.recv().data)
    print(f"sent:        {array.shape[0]} x {array.shape[1]} numbers, {array.nbytes:,} bytes, as one descriptor")
    print(f"the child:   they add up to {report['sum']:,.0f}, and I read them in {report['where']}")
    print(f"for us both: {'writeable' if report['writeable'] else 'read-only'}, for ever")
    if report["sum"] != float(array.sum()):
        raise SystemExit("the child saw other numbers")


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(int(sys.argv[2]))
    else:
        main()
