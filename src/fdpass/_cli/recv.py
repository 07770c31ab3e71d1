"""``fdpass recv``: receive one message at a socket, and print a descriptor or run a command with all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from types import FrameType

import click

from fdpass import Message, recv_fds
from fdpass._admission import admitted
from fdpass._cli.common import Deadline, Failure, copy_out, printable, seconds
from fdpass._cli.run import run
from fdpass._peer import same_user
from fdpass._sockets import bound_socket, identity_of, unlink_own
from fdpass.errors import FdsLost, Timeout


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
    _exit_on_signals()
    with _first_message(socket_path, Deadline(timeout)) as message:
        text = os.fsdecode(message.data.strip(b"\0"))
        if command:
            run(command, message.fds, stdin=stdin, environment={"FDPASS_MESSAGE": text.replace("\0", "")})
        if text:
            click.echo(f"message: {printable(text)}", err=True)
        if len(message) > 1:
            click.echo(
                f"received {len(message)} descriptors; this is the first (for all, give a command)", err=True
            )
        copy_out(message.fds[0])


def _first_message(path: str, deadline: Deadline) -> Message:
    """Receive the first message of any peer; a peer that sends nothing is ignored."""
    with _listening(path) as listener:
        while True:
            try:
                message = _receive(listener, deadline)
            except FdsLost as lost:
                for fd in lost.fds:
                    fd.close()
                remedy = "; raise the limit (ulimit -n)" if lost.reason == "table full" else ""
                raise Failure(f"{lost}{remedy}") from lost
            except TimeoutError as error:
                raise Timeout(f"{path}: no message has arrived in time") from error
            if len(message):
                return message
            if message.data:
                start = printable(os.fsdecode(message.data[:40]))
                raise Failure(f"the peer sent {len(message.data)} bytes ({start}), but no descriptor")


def _receive(listener: socket.socket, deadline: Deadline) -> Message:
    """Receive the first message of the next peer; an empty one if the peer closes, or is refused."""
    listener.settimeout(deadline.left())
    peer, _ = listener.accept()
    with peer:
        peer.settimeout(deadline.left())
        # An abstract address has no file mode: this check takes its place. It logs each refusal.
        return recv_fds(peer) if admitted(peer, same_user) else Message(b"")


@contextlib.contextmanager
def _listening(path: str) -> Iterator[socket.socket]:
    with bound_socket(path, "stream", 0o600, 16) as listener:
        file = identity_of(listener.getsockname())
        try:
            yield listener
        finally:
            unlink_own(listener, file)


def _exit_on_signals() -> None:
    """Exit by an exception, so that the socket file is removed; signals that nohup ignores stay ignored."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _exit)


def _exit(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)
