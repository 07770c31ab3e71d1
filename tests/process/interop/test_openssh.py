"""OpenSSH: ssh receives a connection from a test (ProxyUseFdpass), and sends its standard streams to a test (mux).

Both use mm_send_fd of OpenSSH: one NUL byte and one descriptor a message, over a stream. The second test plays the
master of a shared connection; the numbers are those of PROTOCOL.mux in OpenSSH's source.
"""

from __future__ import annotations

import shlex
import socket
import struct
import subprocess
import sys
from pathlib import Path

import fdpass

NO_USER_FILES = ["-F", "none", "-o", "BatchMode=yes", "-o", "UserKnownHostsFile=/dev/null"]

HELLO, NEW_SESSION, ALIVE_CHECK = 0x1, 0x10000002, 0x10000004
EXIT_MESSAGE, ALIVE, SESSION_OPENED = 0x80000004, 0x80000005, 0x80000006


def test_ssh_takes_the_connection_that_we_give(tool, loopback, start, outcome):
    """A ProxyCommand makes the connection and gives it to ssh."""
    helper = Path(__file__).with_name("proxy_helper.py")
    command = shlex.join([sys.executable, str(helper), str(loopback.getsockname()[1])])
    options = ["-o", f"ProxyCommand={command}", "-o", "ProxyUseFdpass=yes"]
    child = start(tool("ssh"), *NO_USER_FILES, *options, "nowhere.invalid", stderr=subprocess.DEVNULL)
    accepted, _ = loopback.accept()
    with accepted, accepted.makefile("rb") as file:
        assert file.readline().startswith(b"SSH-2.0-")
    assert outcome(child)[0] == 255  # the test has closed the connection


def send_numbers(sock, *numbers):
    body = struct.pack(f">{len(numbers)}I", *numbers)
    sock.sendall(struct.pack(">I", len(body)) + body)


def exactly(sock, count):
    """Read ``count`` bytes with recv_fds, which would show a descriptor among them."""
    data = b""
    while len(data) < count:
        message = fdpass.recv_fds(sock, count - len(data))
        assert message.data
        assert len(message) == 0
        data += message.data
    return data


def receive_packet(sock):
    """The type of ssh's next packet, the number after it, and the rest."""
    (length,) = struct.unpack(">I", exactly(sock, 4))
    body = exactly(sock, length)
    return *struct.unpack(">II", body[:8]), body[8:]


def greet(sock):
    assert receive_packet(sock)[:2] == (HELLO, 4)
    send_numbers(sock, HELLO, 4)
    kind, request, _ = receive_packet(sock)
    assert kind == ALIVE_CHECK
    send_numbers(sock, ALIVE, request, 1)


def test_we_take_the_standard_streams_that_ssh_sends(tool, tmp_path, start, outcome):
    """Three messages on one stream stay separate: standard input, output and error, one descriptor each."""
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(60)
        sharing = ["-o", f"ControlPath={path}", "-o", "ControlMaster=no"]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        child = start(tool("ssh"), *NO_USER_FILES, *sharing, "nowhere.invalid", "a command", **streams)
        master, _ = listener.accept()
    with master:
        master.settimeout(60)
        greet(master)
        kind, request, rest = receive_packet(master)
        assert kind == NEW_SESSION
        assert b"a command" in rest
        messages = [fdpass.recv_fds(master, 1) for _ in range(3)]
        assert [(message.data, len(message)) for message in messages] == [(b"\0", 1)] * 3
        stdin, stdout, stderr = (message.fds[0] for message in messages)
        with stdin, stderr, stdout.open("w") as output:
            output.write("written by us, printed by ssh")
        send_numbers(master, SESSION_OPENED, request, 1)
        send_numbers(master, EXIT_MESSAGE, 1, 7)
    assert outcome(child) == (7, b"written by us, printed by ssh")
