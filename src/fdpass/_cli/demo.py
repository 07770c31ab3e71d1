"""``fdpass demo``: a child opens a file and its parent reads it. ``fdpass demo serve`` is in a file of its own."""

from __future__ import annotations

import contextlib
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
from fdpass._cli.common import Failure, copy_out, printable, sentence
from fdpass._fd import Fd
from fdpass.errors import FdpassError

_TYPES = {"stream": socket.SOCK_STREAM, "dgram": socket.SOCK_DGRAM, "seqpacket": socket.SOCK_SEQPACKET}
_TEXT = """Hello, I am 1.txt.
The process that shows me to you has never opened me:
its child did, and gave the open file away.
"""


class _Either(click.Group):
    """``fdpass demo serve`` is one demonstration; any other word is the file of the other one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in {"serve", "file"} and args[0] not in ctx.help_option_names):
            args = ["file", *args]
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "serve":
            from fdpass._cli.demo_serve import serve  # noqa: PLC0415 - the other one needs none of it

            return serve
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), "serve"]


@click.group(
    cls=_Either,
    epilog="""Examples:

\b
  fdpass demo
  fdpass demo /etc/hostname --type seqpacket
  fdpass demo --shared-offset
  fdpass demo serve""",
)
def demo() -> None:
    """Watch an open file go from one process to another, or a server outlive its workers.

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
    "--shared-offset", is_flag=True, help="Let the child read 5 bytes first; the parent reads on from there."
)
def demo_file(file: str | None, kind: str, shared_offset: bool) -> None:
    """Watch an open file go from one process to another.

    A parent and a child are joined by a pair of Unix sockets. The child opens FILE (one that the demo makes,
    if none is named), gives the descriptor to the parent and closes its own. The parent prints the text, and
    compares: another number, but the same open file.
    """
    with contextlib.ExitStack() as held:
        path = file or _made(held.enter_context(tempfile.TemporaryDirectory(prefix="fdpass-")))
        ours, child = _started(path, kind, shared_offset, held)
        message = held.enter_context(_answer(ours, child))
        _tell(json.loads(message.data), message.fds[0], child, kind, path)


def _started(path: str, kind: str, shared_offset: bool, held: contextlib.ExitStack) -> tuple[socket.socket, int]:
    """A child that sends the file, and our end of the pair: both are seen to at the end of ``held``."""
    ours, childs = socket.socketpair(socket.AF_UNIX, _TYPES[kind])
    # An interrupt during fork(2) would be lost, for it could be raised only in what modules do after a
    # fork, where exceptions are ignored. So it waits until somebody looks after the child.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    child = os.fork()
    if child == 0:
        # What closes here decides the numbers: each side's next descriptor takes the place of the end
        # that it does not need, so the two sides get different ones.
        ours.close()
        _be_child(childs, path, shared_offset, mask)
    childs.close()
    held.enter_context(ours)
    held.enter_context(_reaped(child))
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return ours, child


def _made(folder: str) -> str:
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
            told = {**_facts(fd), "read": os.fsdecode(read)}
            send_fds(sock, json.dumps(told).encode(), [fd], give=True)
        status = 0
    except (FdpassError, OSError) as error:
        send_fds(sock, json.dumps({"error": sentence(error)}).encode(), [])
    except KeyboardInterrupt:
        pass  # the parent was interrupted too, and says so by its exit code
    finally:
        os._exit(status)  # the parent's side of the stack, and its buffers, are not ours to unwind


def _facts(fd: Fd) -> dict[str, Any]:
    try:
        offset = os.lseek(fd.fileno(), 0, os.SEEK_CUR)
    except OSError:
        offset = None  # a pipe or a terminal has none
    return {"number": fd.fileno(), "inode": os.fstat(fd.fileno()).st_ino, "offset": offset}


@contextlib.contextmanager
def _reaped(child: int) -> Iterator[None]:
    """No child is left over, however this ends."""
    try:
        yield
    except BaseException:
        os.kill(child, signal.SIGKILL)  # it may wait for ever in open(2) of a FIFO; not reaped, so still ours
        raise
    finally:
        os.waitpid(child, 0)


def _answer(sock: socket.socket, child: int) -> Message:
    """The child's message. Its death is watched too: a datagram socket would not tell."""
    with Fd(os.pidfd_open(child)) as alive:
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        poller.register(alive, select.POLLIN)
        ready = dict(poller.poll())
    message = recv_fds(sock) if sock.fileno() in ready else None
    if not message:
        raise Failure("the child ended without a word")
    if not len(message):
        raise Failure(json.loads(message.data)["error"])
    return message


def _tell(told: dict[str, Any], fd: Fd, pid: int, kind: str, path: str) -> None:
    here = _facts(fd)
    parent = click.style(f"parent {os.getpid()}", fg="cyan")
    child = click.style(f"child {pid}", fg="yellow")
    click.echo(f"A parent and a child process, joined by a pair of Unix sockets ({kind}).\n")
    click.echo(f"{child} opens {printable(path)}: it is descriptor {told['number']}")
    if told["read"]:
        click.echo(f"{child} reads its first {len(told['read'])} bytes: {told['read']!r}")
    click.echo(f"{child} gives descriptor {told['number']} to the parent, and closes its own")
    click.echo(f"{parent} receives it: here it is descriptor {here['number']}, and it holds\n")
    copy_out(fd)
    click.echo()
    click.echo(click.style(f"{'':8}{'child':>12}{'parent':>12}", bold=True))
    position = "one open file: the position came along" if told["read"] else "one position: try --shared-offset"
    for fact, says in (
        ("number", "two numbers, each the process's own"),
        ("inode", "one file"),
        ("offset", position),
    ):
        if told[fact] is not None:
            click.echo(f"{fact:8}{told[fact]:>12}{here[fact]:>12}   {says}")
