"""``fdpass recv``: receive one message at a socket, and print a descriptor or run a command with all of them."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import socket
from collections.abc import Iterator

import click

from fdpass import Message, recv_fds
from fdpass._admission import admitted
from fdpass._cli.common import Deadline, Failure, check_socket_path, copy_out, seconds
from fdpass._cli.progress import waiting
from fdpass._cli.run import run
from fdpass._cli.signals import stop_on
from fdpass._cli.streams import echo, printable
from fdpass._peer import same_user
from fdpass._sockets import accepted, bound_socket, identity_of, unlink_own
from fdpass._words import counted
from fdpass.errors import FdsLost, PeerClosed, Timeout

_MOST_PEERS = 64  # connections that are open at a time without having sent anything


@click.command(
    epilog="""Examples:

\b
  fdpass recv /tmp/s > copy                     print the content of the first descriptor
  fdpass recv /tmp/s --stdin -- wc -l           read it on standard input
  fdpass recv /tmp/s -- grep -c error {}        read it as /dev/fd/3
  fdpass recv /tmp/s --timeout 10 -- ./server   descriptors from 3 on, as under systemd"""
)
@click.argument("socket_path", metavar="SOCKET")
@click.argument("command", metavar="[-- COMMAND ARG...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--timeout", type=seconds, help="Fail if no message has arrived in this time.")
@click.option("--stdin", is_flag=True, help="Also make the first descriptor the standard input of COMMAND.")
def recv(socket_path: str, command: tuple[str, ...], timeout: float | None, stdin: bool) -> None:
    """Listen at SOCKET, and receive one message with descriptors.

    The sender can be any program of the same user or root that sends descriptors over a Unix stream socket
    (SCM_RIGHTS); other users are refused. The socket file has mode 0600, and is removed at the end. A SOCKET that
    starts with @ is an abstract address.

    Without COMMAND, prints the content of the first descriptor from its offset on, and the text of the message on
    standard error. With COMMAND, runs it with the descriptors from number 3 on, as in socket activation
    (LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES), and the text in FDPASS_MESSAGE; {} in its arguments becomes
    /dev/fd/3.
    """
    if stdin and not command:
        raise click.UsageError("--stdin needs a COMMAND: give one after --.")
    stop_on(signal.SIGTERM, signal.SIGHUP)  # by an exception, so that the socket file is removed
    with _first_message(socket_path, Deadline(timeout)) as message:
        text = os.fsdecode(message.data.strip(b"\0"))
        if command:
            run(command, message.fds, stdin=stdin, environment={"FDPASS_MESSAGE": text.replace("\0", "")})
        if text:
            echo(f"message: {printable(text)}", err=True)
        if len(message) > 1:
            echo(f"received {len(message)} descriptors; this is the first (for all, give a command)", err=True)
        copy_out(message.fds[0])


def _first_message(path: str, deadline: Deadline) -> Message:
    """Receive the first message of any peer; peers that send nothing are ignored."""
    check_socket_path(path)
    with (
        _listening(path) as listener,
        contextlib.closing(_Peers(listener)) as peers,
        waiting(f"waiting for a message at {path}"),
    ):
        while True:
            try:
                message = peers.receive(deadline)
            except FdsLost as lost:
                for fd in lost.fds:
                    fd.close()
                remedy = "; raise the limit (ulimit -n)" if lost.reason == "table full" else ""
                raise Failure(f"{lost}{remedy}") from lost
            if message is None:
                raise Timeout(f"{path}: no message has arrived in time")
            if len(message):
                return message
            if message.data:
                start = printable(os.fsdecode(message.data[:40]))
                raise Failure(f"the peer sent {counted(len(message.data), 'byte')} ({start}), but no descriptor")


class _Peers:
    """The connections of a listener, of which none has sent anything yet.

    Args:
        listener: Lent.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._open: dict[int, socket.socket] = {}  # by number, the oldest first
        self._poller = select.poll()
        listener.setblocking(False)
        self._poller.register(listener, select.POLLIN)

    def receive(self, deadline: Deadline) -> Message | None:
        """Receive the first message of the first peer that sends; None if time runs out.

        The message is empty if a peer closed its end instead.
        """
        while True:
            left = deadline.left()
            ready = dict(self._poller.poll(None if left is None else math.ceil(left * 1000)))
            for number in ready.keys() & self._open.keys():
                return self._receive(number)
            if ready:
                self._accept()
            elif deadline.passed():
                return None

    def _receive(self, number: int) -> Message:
        with self._open[number] as peer:
            self._remove(number)
            try:
                return recv_fds(peer)
            except PeerClosed:
                return Message(b"")

    def _accept(self) -> None:
        try:
            peer = accepted(self._listener)
        except BlockingIOError:
            return
        # An abstract address has no file mode: this check takes its place. It logs each refusal.
        if peer is None or not admitted(peer, same_user):
            return
        if len(self._open) == _MOST_PEERS:
            oldest = next(iter(self._open))
            with self._open[oldest]:
                self._remove(oldest)
        peer.setblocking(False)
        self._open[peer.fileno()] = peer
        self._poller.register(peer, select.POLLIN)

    def _remove(self, number: int) -> None:
        self._poller.unregister(number)
        del self._open[number]

    def close(self) -> None:
        """Close the connections that are left."""
        for peer in self._open.values():
            peer.close()


@contextlib.contextmanager
def _listening(path: str) -> Iterator[socket.socket]:
    with bound_socket(path, "stream", 0o600, 16) as listener:
        file = identity_of(listener.getsockname())
        try:
            yield listener
        finally:
            unlink_own(listener, file)
