"""``fdpass demo``: a child opens a file, and its parent reads it. Demonstrations with a server have own files."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import tempfile
from collections.abc import Iterator
from typing import Any, NoReturn

import click

from fdpass import Message, recv_fds, send_fds
from fdpass._cli.common import Failure, copy_out, sentence
from fdpass._cli.streams import echo, printable
from fdpass._fd import Fd
from fdpass.errors import FdpassError

_TYPES = {"stream": socket.SOCK_STREAM, "dgram": socket.SOCK_DGRAM, "seqpacket": socket.SOCK_SEQPACKET}
_TEXT = """Hello, I am 1.txt.
The process that prints me has never opened me:
its child has, and has passed the open file on.
"""


_WITH_SERVER = ("serve", "live")  # each has a file of its own, of which ``demo file`` needs nothing


class _Demo(click.Group):
    """A word that is no command is the FILE of ``file``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in {"file", *_WITH_SERVER} and args[0] not in ctx.help_option_names):
            args = ["file", *args]
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _WITH_SERVER:
            command: click.Command = getattr(importlib.import_module(f"fdpass._cli.demo_{cmd_name}"), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *_WITH_SERVER]


@click.group(
    cls=_Demo,
    epilog="""Examples:

\b
  fdpass demo
  fdpass demo /etc/hostname --type seqpacket
  fdpass demo --shared-offset
  fdpass demo serve
  fdpass demo live""",
)
def demo() -> None:
    """Show an open file passed from one process to another, or a server whose connections outlive its workers.

    fdpass demo [FILE] is short for fdpass demo file [FILE].
    """


@demo.command("file")
@click.argument("file", required=False)
@click.option(
    "--type",
    "kind",
    type=click.Choice(list(_TYPES)),
    default="stream",
    show_default=True,
    help="Type of the sockets.",
)
@click.option(
    "--shared-offset", is_flag=True, help="Let the child read 5 bytes first; the parent continues from there."
)
def demo_file(file: str | None, kind: str, shared_offset: bool) -> None:
    """Show an open file passed from one process to another.

    A parent and a child are connected by a pair of Unix sockets. The child opens FILE (without FILE, a file of
    the demo's own), gives the descriptor to the parent, and so closes its own. The parent prints the text, and
    compares: the number differs, but the open file is the same.
    """
    with contextlib.ExitStack() as held:
        path = file or _make_file(held.enter_context(tempfile.TemporaryDirectory(prefix="fdpass-")))
        ours, child = _start(path, kind, shared_offset, held)
        message = held.enter_context(_receive(ours, child))
        _show(json.loads(message.data), message.fds[0], child, kind, path)


def _start(path: str, kind: str, shared_offset: bool, held: contextlib.ExitStack) -> tuple[socket.socket, int]:
    """Start the child that sends the file; ``held`` closes our end of the pair, and reaps the child."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, _TYPES[kind])
    # Python would raise KeyboardInterrupt in a hook that runs after fork(2), where exceptions are ignored. So
    # SIGINT is blocked until ``held`` reaps the child.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    child = os.fork()
    if child == 0:
        # Each side closes the end that it does not need, and its next descriptor gets that number: so the numbers
        # of the two sides differ.
        ours.close()
        _be_child(theirs, path, shared_offset, mask)
    theirs.close()
    held.enter_context(ours)
    held.enter_context(_reaped(child))
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return ours, child


def _make_file(folder: str) -> str:
    path = os.path.join(folder, "1.txt")
    with open(path, "w", encoding="utf-8") as made:
        made.write(_TEXT)
    return path


def _be_child(sock: socket.socket, path: str, shared_offset: bool, mask: set[signal.Signals | int]) -> NoReturn:
    status = 1
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        with Fd.open(path) as fd:
            read = os.read(fd.fileno(), 5) if shared_offset else b""
            facts = {**_facts(fd), "read": os.fsdecode(read)}
            send_fds(sock, json.dumps(facts).encode(), [fd], give=True)
        status = 0
    except (FdpassError, OSError) as error:
        send_fds(sock, json.dumps({"error": sentence(error)}).encode(), [])
    except KeyboardInterrupt:
        pass  # the parent gets SIGINT, too, and ends by it
    finally:
        os._exit(status)  # without the parent's finally blocks and buffers, which fork(2) has copied


def _facts(fd: Fd) -> dict[str, Any]:
    try:
        offset = os.lseek(fd.fileno(), 0, os.SEEK_CUR)
    except OSError:
        offset = None  # a pipe or a terminal has no offset
    return {"number": fd.fileno(), "inode": os.fstat(fd.fileno()).st_ino, "offset": offset}


@contextlib.contextmanager
def _reaped(child: int) -> Iterator[None]:
    """Reap the child at the end; kill it first after an exception."""
    try:
        yield
    except BaseException:
        os.kill(child, signal.SIGKILL)  # it may wait in open(2) of a FIFO; not reaped yet, so the PID is its own
        raise
    finally:
        os.waitpid(child, 0)


def _receive(sock: socket.socket, child: int) -> Message:
    """Receive the child's message, or notice its death, which a datagram socket does not report."""
    with Fd(os.pidfd_open(child)) as pidfd:
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        poller.register(pidfd, select.POLLIN)
        ready = dict(poller.poll())
    message = recv_fds(sock) if sock.fileno() in ready else None
    if not message:
        raise Failure("the child has ended without sending a message")
    if not len(message):
        raise Failure(json.loads(message.data)["error"])
    return message


def _show(there: dict[str, Any], fd: Fd, pid: int, kind: str, path: str) -> None:
    here = _facts(fd)
    parent = click.style(f"parent {os.getpid()}", fg="cyan")
    child = click.style(f"child {pid}", fg="yellow")
    echo(f"A parent and a child process, connected by a pair of Unix sockets ({kind}).\n")
    echo(f"{child} opens {printable(path)} as descriptor {there['number']}")
    if there["read"]:
        echo(f"{child} reads its first {len(there['read'])} bytes: {there['read']!r}")
    echo(f"{child} gives descriptor {there['number']} to the parent, and closes its own")
    echo(f"{parent} receives it as descriptor {here['number']}, and reads from it:\n")
    copy_out(fd)
    echo()
    echo(click.style(f"{'':8}{'child':>12}{'parent':>12}", bold=True))
    position = "one open file: the offset is shared" if there["read"] else "one offset: try --shared-offset"
    for fact, meaning in (
        ("number", "each process has a number of its own"),
        ("inode", "one file"),
        ("offset", position),
    ):
        if there[fact] is not None:
            echo(f"{fact:8}{there[fact]:>12}{here[fact]:>12}   {meaning}")
