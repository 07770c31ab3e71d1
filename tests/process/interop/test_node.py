"""Node.js: handles over the channel of child_process, JSON lines with the descriptor on the first byte.

The test plays the parent of `child_process.fork` (NODE_CHANNEL_FD). Node's channel is a stream. The format of a
line with a handle, and the answer NODE_HANDLE_ACK, after which the sender closes its own descriptor, are those of
lib/internal/child_process.js of Node.
"""

from __future__ import annotations

import json
import os
import socket

import pytest

import fdpass


@pytest.fixture
def node(tool, stream_pair, start, outcome):
    """Start the peer: the test's end of its channel, and a function that ends the peer."""
    ours, theirs = stream_pair
    program = os.path.join(os.path.dirname(__file__), "peer.cjs")

    def run(*words):
        number = theirs.fileno()
        environment = os.environ | {"NODE_CHANNEL_FD": str(number), "NODE_CHANNEL_SERIALIZATION_MODE": "json"}
        child = start(tool("node"), program, *words, env=environment, pass_fds=[number])
        theirs.close()  # so that the end of the child ends the channel

        def end():
            ours.close()
            assert outcome(child)[0] == 0

        return NodeChannel(ours), end

    return run


class NodeChannel:
    """The test's end. Several lines can arrive together; a descriptor belongs to the first with NODE_HANDLE."""

    def __init__(self, sock):
        self.sock = sock
        self.waiting = b""
        self.fds = []

    def line(self):
        while b"\n" not in self.waiting:
            message = fdpass.recv_fds(self.sock)
            assert message.data, f"node closed the channel after {self.waiting!r}"
            self.waiting += message.data
            self.fds += message.fds
        line, self.waiting = self.waiting.split(b"\n", 1)
        return json.loads(line)

    def handle(self):
        """Receive and acknowledge a handle: its type, the message with it, and its descriptor."""
        line = self.line()
        assert line["cmd"] == "NODE_HANDLE"
        self.sock.sendall(b'{"cmd":"NODE_HANDLE_ACK"}\n')
        (fd,) = self.fds
        return line["type"], line["msg"], fd

    def send_handle(self, kind, message, handle, *, give=False):
        """Send a handle as Node does, and wait until Node has acknowledged it."""
        line = json.dumps({"cmd": "NODE_HANDLE", "type": kind, "msg": message}).encode() + b"\n"
        assert fdpass.send_fds(self.sock, line, [handle], give=give) == len(line)
        assert self.line() == {"cmd": "NODE_HANDLE_ACK"}


def read_to_end(sock):
    with sock.makefile("rb") as file:
        return file.read()


def test_we_receive_a_server_from_node(node):
    """A listening net.Server arrives; the test accepts on it after Node has ended."""
    channel, end = node("send-server")
    kind, message, fd = channel.handle()
    assert (kind, fd.kind) == ("net.Server", "listener")
    with fd.socket() as server:
        end()
        with socket.create_connection(("127.0.0.1", message["port"])) as client:
            accepted, address = server.accept()
            with accepted:
                assert address == client.getsockname()


def test_we_receive_a_connection_from_node(node, loopback):
    """A net.Socket that Node connected arrives; the test uses it after Node has ended."""
    channel, end = node("send-socket", str(loopback.getsockname()[1]))
    accepted, address = loopback.accept()
    with accepted:
        kind, message, fd = channel.handle()
        assert (kind, message, fd.kind) == ("net.Socket", "a socket of node", "socket")
        with fd.socket() as sock:
            end()
            assert sock.getsockname() == address
            sock.sendall(b"from python now")
        assert read_to_end(accepted) == b"from python now"


def test_node_serves_the_listener_that_we_send(node, loopback):
    """A listening socket becomes a net.Server in Node."""
    channel, end = node("recv")
    channel.send_handle("net.Server", "a listener", loopback)
    assert channel.line() == "server"
    with socket.create_connection(loopback.getsockname()) as client:
        assert read_to_end(client) == b"node got: a listener"
    end()


def test_node_answers_on_the_connection_that_we_give(node, loopback):
    """An accepted connection that is given becomes a net.Socket in Node."""
    channel, end = node("recv")
    with socket.create_connection(loopback.getsockname()) as client:
        accepted, _ = loopback.accept()
        channel.send_handle("net.Socket", "a connection", accepted, give=True)
        assert accepted.fileno() == -1
        assert channel.line() == "socket"
        assert read_to_end(client) == b"node got: a connection"
    end()
