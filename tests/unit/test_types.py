"""What a type checker says about code that uses fdpass: wrong words and things are refused, right ones are not.

`CODE` is one file; a comment at a line's end is the code of the error that mypy must find there.
"""

import re
import subprocess
import sys

CODE = """
import io
import socket
from array import array
from pathlib import Path
from typing import IO, Any, BinaryIO, TextIO

import fdpass
from fdpass import AsyncChannel, Channel, Fd, Listener, Policy, aio, connect, listen, recv_fds, send_fds, share


def options(sock: socket.socket) -> None:
    Channel.pair(acknowledged=True, max_message=1, max_fds=0, policy=Policy())
    Channel.pair("stream")
    Channel.pair(acknowleged=True)  # call-arg
    Channel.pair("tcp")  # arg-type
    AsyncChannel.pair(max_mesage=1)  # call-arg
    listen("/s", type="stream", acknowledged=True)
    listen("/s", acknowleged=True)  # call-arg
    listen("/s", max_fds="1")  # arg-type
    connect("/s", timeout=3, policy=None)
    connect("/s", polcy=None)  # call-arg
    Listener(sock, unlink=True, max_fds=1)
    Listener(sock, max_fd=1)  # call-arg
    Channel("hi")  # arg-type


async def options_of_aio() -> None:
    await aio.listen("/s", max_fds=1)
    await aio.listen("/s", max_fd=1)  # call-arg
    await aio.connect("/s", acknowleged=True)  # call-arg


def sending(channel: Channel, sock: socket.socket, file: IO[bytes], fd: Fd) -> None:
    channel.send(b"x", [0, sock, file, fd], give=True)
    channel.send(bytearray(b"x"), (each for each in [fd]))
    channel.send(memoryview(b"x"), {1, 2})
    channel.send(array("d", [1.0]))
    channel.send("text")  # arg-type
    channel.send(b"x", ["/etc/passwd"])  # list-item
    channel.send(b"x", "/etc/passwd")  # arg-type
    channel.send(b"x", fd)  # arg-type
    channel.send(b"x", [Path("/etc/passwd")])  # list-item
    send_fds(sock, b"x", [fd], flags=socket.MSG_DONTWAIT)
    send_fds(sock, "text", [fd])  # arg-type
    send_fds(sock, b"x", [None])  # list-item
    share(b"x", name="x")
    share("x")  # arg-type


async def sending_async(channel: AsyncChannel, fd: Fd) -> None:
    await channel.send(b"x", [fd])
    await channel.send("text")  # arg-type
    await channel.send(b"x", ["/etc/passwd"])  # list-item


def policies() -> None:
    Policy(kinds={"memfd", "file"}, access="r", count=1)
    Policy(kinds=frozenset({"listener"}))
    Policy(kinds=["pipe"])
    Policy(kinds={"sockets"})  # arg-type
    Policy(kinds="memfd")  # arg-type
    Policy(access="wr")  # arg-type
    Policy(acces="w")  # call-arg


def opening(fd: Fd, mode: str) -> None:
    binary: BinaryIO = fd.open("rb")
    text: TextIO = fd.open("w", encoding="utf-8", newline="")
    default: TextIO = fd.open()
    either: IO[Any] = fd.open(mode)
    made: Fd = Fd.open(Path("/x"), "rw", perm=0o600)
    fd.open("rb", closefd=False)  # call-overload
    Fd.open("/x", "r", encoding="utf-8")  # call-arg
    wrong: TextIO = fd.open("rb")  # assignment
    io.TextIOWrapper(binary).close()
    print(text, default, either, made, wrong)


def reading(sock: socket.socket, fd: Fd) -> str:
    kind: str = fd.kind
    if fd.kind == "sockets":  # comparison-overlap
        return kind
    with recv_fds(sock) as message:
        return message.data  # return-value


def errors(error: fdpass.FdsLost) -> bool:
    return error.reason == "full"  # comparison-overlap
"""


def test_mypy_refuses_what_would_fail_and_nothing_else(tmp_path):
    """Each line with a comment has this error, and no other line has any."""
    file = tmp_path / "uses.py"
    file.write_text(CODE)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(file)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    found = {
        (int(line), code)
        for line, code in re.findall(r"^uses\.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    }
    expected = {
        (number, code.group(1))
        for number, line in enumerate(CODE.splitlines(), 1)
        if (code := re.search(r"  # ([a-z-]+)$", line))
    }
    assert found == expected, done.stdout + done.stderr
