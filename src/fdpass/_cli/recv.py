"""``fdpass recv``: listen at a socket, take one message, print what came or run a command with it."""

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
  fdpass recv /tmp/s > copy                     print what the first descriptor holds
  fdpass recv /tmp/s --stdin -- wc -l           read it on standard input
  fdpass recv /tmp/s -- grep -c error {}        read it as /dev/fd/3
  fdpass recv /tmp/s --timeout 10 -- ./server   descriptors from 3 on, as under systemd"""
)
@click.argument("socket_path", metavar="SOCKET")
@click.argument("command", metavar="[-- COMMAND ARG...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--timeout", type=seconds, help="Fail if no message has come after this long.")
@click.option("--stdin", is_flag=True, help="Put the first descriptor on the command's standard input, too.")
def recv(socket_path: str, command: tuple[str, ...], timeout: float | None, stdin: bool) -> None:
    """Listen at SOCKET and take one message with descriptors.

    Any program that sends descriptors over a Unix stream socket (SCM_RIGHTS) may be the sender, if it runs as
    the same user or root: others are refused. The socket file is private (0600), and is removed at the end.
    A SOCKET that starts with @ is an abstract address.

    Without a COMMAND, copies what the first descriptor holds, from its offset on, to standard output. With
    one, runs it with the descriptors from number 3 on (LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES); {} in its
    arguments becomes /dev/fd/3. A text that came along is shown on standard error, or given to the COMMAND
    as FDPASS_MESSAGE.
    """
    if stdin and not command:
        raise click.UsageError("--stdin is for a COMMAND: give one after --.")
    _exit_on_signals()
    with _received(socket_path, Deadline(timeout)) as message:
        text = os.fsdecode(message.data.strip(b"\0"))
        if command:
            run(command, message.fds, stdin=stdin, environment={"FDPASS_MESSAGE": text.replace("\0", "")})
        if text:
            click.echo(f"message: {printable(text)}", err=True)
        if len(message) > 1:
            click.echo(f"{len(message)} descriptors came; this is the first (for all, give a command)", err=True)
        copy_out(message.fds[0])


def _received(path: str, deadline: Deadline) -> Message:
    """The first message that any peer sends; one that leaves without a word is passed over."""
    with _listening(path) as listener:
        while True:
            try:
                message = _next(listener, deadline)
            except FdsLost as lost:
                for fd in lost.fds:
                    fd.close()
                remedy = "; raise the limit (ulimit -n)" if lost.reason == "table full" else ""
                raise Failure(f"{lost}{remedy}") from lost
            except TimeoutError as error:
                raise Timeout(f"{path}: nobody sent a message in time") from error
            if len(message):
                return message
            if message.data:
                said = printable(os.fsdecode(message.data[:40]))
                raise Failure(f"the peer sent {len(message.data)} bytes ({said}), but no descriptor")


def _next(listener: socket.socket, deadline: Deadline) -> Message:
    """What the next peer sends first; an empty message if it closes, or may not connect."""
    listener.settimeout(deadline.left())
    peer, _ = listener.accept()
    with peer:
        peer.settimeout(deadline.left())
        # No file mode guards an abstract address: this rule does. Who is refused is logged.
        return recv_fds(peer) if admitted(peer, same_user) else Message(b"")


@contextlib.contextmanager
def _listening(path: str) -> Iterator[socket.socket]:
    with bound_socket(path, "stream", 0o600, 16) as listener:
        mine = identity_of(listener.getsockname())
        try:
            yield listener
        finally:
            unlink_own(listener, mine)


def _exit_on_signals() -> None:
    """Leave by an exception, so that the socket file goes too; nohup's ignoring stays."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _exit)


def _exit(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)
