"""``fdpass demo serve``: workers are killed and reloaded under load, and no client notices."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator

import click

from fdpass._cli.demo_server import kill_any, require, running
from fdpass._cli.demo_show import Show
from fdpass._cli.streams import echo
from fdpass._words import counted
from fdpass.errors import FdpassError
from fdpass.serve.operator.client import ask

_KEEPING, _FRESH = 24, 6  # clients that keep their connection; clients that open one for each request
_PAUSE = 0.02  # seconds between two requests of a client
_KILL_EVERY, _RELOAD_EVERY = 0.5, 2.5  # seconds
_PATIENCE = 15.0  # seconds that a client waits for an answer
_DRAW_EVERY = 0.1


@click.command("serve")
@click.option(
    "--seconds", type=click.FloatRange(1, 3600), default=10.0, show_default=True, help="Duration of the run."
)
@click.option("--once", is_flag=True, help="Print only the summary, without the live picture.")
def serve(seconds: float, once: bool) -> None:
    """Show workers killed and reloaded under load, while no client notices.

    Starts a server with three workers, and 30 clients, most of which keep one connection all the time. Each client
    checks every byte of every answer. Twice a second a worker gets kill -9; every 2.5 seconds the server reloads.
    """
    live = sys.stdout.isatty() and not once
    require(*(["rich.live"] if live else []))
    with (
        tempfile.TemporaryDirectory(prefix="fdpass-") as folder,
        running(folder, "fdpass._cli.demo_app:app", workers=3) as place,
    ):
        show = Show(seconds)
        asyncio.run(_play(show, place.control, place.address, live=live))
    _print_summary(show)
    if show.errors or show.reconnects:
        raise click.exceptions.Exit(1)


async def _play(show: Show, control: str, address: str, *, live: bool) -> None:
    host, _, port = address.rpartition(":")
    async with asyncio.TaskGroup() as tasks:
        for number in range(_KEEPING + _FRESH):
            tasks.create_task(_client(show, host, int(port), number, keep=number < _KEEPING))
        tasks.create_task(_killer(show, control))
        tasks.create_task(_reloader(show, control))
        tasks.create_task(_watcher(show, control))
        if live:
            tasks.create_task(_draw(show))


async def _client(show: Show, host: str, port: int, number: int, *, keep: bool) -> None:
    count = 0
    while not show.over:
        try:
            async with _connected(host, port) as (reader, writer):
                while not show.over:
                    count += 1
                    await _request(show, reader, writer, f"token-{number}-{count}", keep=keep)
                    await asyncio.sleep(_PAUSE)
                    if not keep:
                        break
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            show.errors[type(error).__name__] += 1
            show.reconnects += keep


@contextlib.asynccontextmanager
async def _connected(host: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _request(
    show: Show, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str, *, keep: bool
) -> None:
    began = time.monotonic()
    close = "" if keep else "Connection: close\r\n"
    writer.write(f"GET /?{token} HTTP/1.1\r\nHost: demo\r\n{close}\r\n".encode())
    async with asyncio.timeout(_PATIENCE):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        body = await reader.readexactly(length)
    if not head.startswith(b"HTTP/1.1 200 ") or body.split()[-1] != token.encode():
        raise ValueError(f"a wrong answer: {head!r} {body!r}")
    show.requests += 1
    show.worst = max(show.worst, time.monotonic() - began)


async def _killer(show: Show, control: str) -> None:
    while not show.over:
        await asyncio.sleep(_KILL_EVERY)
        status = await asyncio.to_thread(ask, control, "status")
        if not show.over and (victim := kill_any(status["workers"])):
            show.kills += 1
            show.add_event(
                f"kill -9 worker {victim['pid']}, which had {counted(victim['connections'], 'connection')}"
            )


async def _reloader(show: Show, control: str) -> None:
    while show.end - time.monotonic() > _RELOAD_EVERY:
        await asyncio.sleep(_RELOAD_EVERY)
        try:
            answer = await asyncio.to_thread(ask, control, "reload")
        except FdpassError as error:  # a kill may hit a starting worker of the next generation
            show.add_event(f"reload refused: {error}")
        else:
            show.reloads += 1
            show.add_event(f"reload: generation {answer['generation']} serves")


async def _watcher(show: Show, control: str) -> None:
    while not show.over:
        show.status = await asyncio.to_thread(ask, control, "status")
        await asyncio.sleep(_DRAW_EVERY)


async def _draw(show: Show) -> None:
    from rich.live import Live  # noqa: PLC0415 - only where there is a terminal

    from fdpass._cli.demo_picture import picture  # noqa: PLC0415

    with Live(picture(show), refresh_per_second=10, transient=True) as live:
        while not show.over:
            await asyncio.sleep(_DRAW_EVERY)
            live.update(picture(show))


def _print_summary(show: Show) -> None:
    connections = show.status["connections"]
    lines = [
        f"{show.requests:,} requests: {_KEEPING} clients keep their connection, {_FRESH} open one for each",
        f"{counted(show.kills, 'worker')} killed with kill -9, {counted(show.reloads, 'reload')}",
        f"{connections.get('moved', 0)} times an idle connection moved to another worker",
        f"{connections.get('replayed', 0)} times a request was repeated in another worker",
        f"reconnects: {show.reconnects}",
        f"errors: {sum(show.errors.values())}{_kinds(show.errors)}",
        f"longest wait for an answer: {show.worst * 1000:.0f} ms",
    ]
    echo("\n".join(lines))


def _kinds(errors: Counter[str]) -> str:
    return " (" + ", ".join(f"{count} {kind}" for kind, count in errors.items()) + ")" if errors else ""
