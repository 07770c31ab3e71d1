"""``fdpass demo serve``: workers are killed and reloaded under load, and no client notices."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator

import click

from fdpass._cli.demo_server import Place, kill_any, require, running
from fdpass._cli.demo_show import Figures, Show
from fdpass._cli.demo_uvicorn import NAME, Uvicorn, running_uvicorn
from fdpass._cli.signals import stop_on
from fdpass._cli.streams import echo
from fdpass._words import counted
from fdpass.errors import FdpassError
from fdpass.serve.operator.client import ask

_APP = "fdpass._cli.demo_app:app"
_WORKERS = 3
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
@click.option(
    "--against",
    type=click.Choice([NAME]),
    help="Run another server beside fdpass, with the same load, kills and reloads.",
)
def serve(seconds: float, once: bool, against: str | None) -> None:
    """Show workers killed and reloaded under load, while no client notices.

    Starts a server with three workers, and 30 clients, most of which keep one connection all the time. Each client
    checks every byte of every answer. Twice a second a worker gets kill -9, if another one is ready; every 2.5
    seconds the server reloads. With --against uvicorn, a uvicorn with three workers gets the same load, kills and
    reloads, and a second column.
    """
    live = sys.stdout.isatty() and not once
    require(*(["rich.live"] if live else []))
    stop_on(signal.SIGTERM, signal.SIGHUP)
    with contextlib.ExitStack() as held:
        folder = held.enter_context(tempfile.TemporaryDirectory(prefix="fdpass-"))
        place = held.enter_context(running(folder, _APP, workers=_WORKERS))
        other = held.enter_context(running_uvicorn(folder, _APP, workers=_WORKERS)) if against else None
        show = Show(seconds, against or "")
        asyncio.run(_play(show, place, other, live=live))
    _print_summary(show)
    if show.ours.wrong or show.ours.reconnects:
        raise click.exceptions.Exit(1)


async def _play(show: Show, place: Place, other: Uvicorn | None, *, live: bool) -> None:
    addresses = [place.address, *([] if other is None else [other.address])]
    async with asyncio.TaskGroup() as tasks:
        for figures, address in zip(show.sides, addresses, strict=True):
            for number in range(_KEEPING + _FRESH):
                tasks.create_task(_client(show, figures, address, number, keep=number < _KEEPING))
        tasks.create_task(_killer(show, place.control, other))
        tasks.create_task(_reloader(show, place.control, other))
        tasks.create_task(_watcher(show, place.control))
        if live:
            tasks.create_task(_draw(show))


async def _client(show: Show, figures: Figures, address: str, number: int, *, keep: bool) -> None:
    host, _, port = address.rpartition(":")
    count = 0
    while not show.over:
        try:
            async with _connected(host, int(port)) as (reader, writer):
                while not show.over:
                    count += 1
                    await _request(figures, reader, writer, f"token-{number}-{count}", keep=keep)
                    await asyncio.sleep(_PAUSE)
                    if not keep:
                        break
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            figures.errors[type(error).__name__] += 1
            figures.reconnects += keep
            await asyncio.sleep(_PAUSE)  # a server that refuses all connections is not asked in a busy loop


@contextlib.asynccontextmanager
async def _connected(host: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _request(
    figures: Figures, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str, *, keep: bool
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
    figures.requests += 1
    figures.worst = max(figures.worst, time.monotonic() - began)


async def _killer(show: Show, control: str, other: Uvicorn | None) -> None:
    while not show.over:
        await asyncio.sleep(_KILL_EVERY)
        status = await asyncio.to_thread(ask, control, "status")
        ready = [worker for worker in status["workers"] if worker["state"] == "ready"]
        if show.over or len(ready) < 2:  # on a slow machine the next workers still start
            continue
        if victim := kill_any(ready):
            show.kills += 1
            event = f"kill -9 worker {victim['pid']}, which had {counted(victim['connections'], 'connection')}"
            if other is not None and (pid := other.kill_any()):
                event += f"; and worker {pid} of {NAME}"
            show.add_event(event)


async def _reloader(show: Show, control: str, other: Uvicorn | None) -> None:
    while show.end - time.monotonic() > _RELOAD_EVERY:
        await asyncio.sleep(_RELOAD_EVERY)
        if other is not None:
            other.reload()
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
    ours = show.ours
    lines = [
        f"{ours.requests:,} requests: {_KEEPING} clients keep their connection, {_FRESH} open one for each",
        f"{counted(show.kills, 'worker')} killed with kill -9, {counted(show.reloads, 'reload')}",
        f"{connections.get('moved', 0)} times an idle connection moved to another worker",
        f"{connections.get('replayed', 0)} times a request was repeated in another worker",
    ]
    if show.theirs is None:
        lines += [f"{label}: {value}" for label, value in _seen(ours)]
    else:
        lines += ["", f"{'':24}{ours.name:>12}{show.theirs.name:>12}"]
        pairs = zip(_seen(ours), _seen(show.theirs), strict=True)
        lines += [f"{label:24}{value:>12}{other:>12}" for (label, value), (_, other) in pairs]
    lines += [
        f"errors of {side.name}: " + ", ".join(f"{count} {kind}" for kind, count in side.errors.items())
        for side in show.sides
        if side.errors
    ]
    echo("\n".join(lines))


def _seen(side: Figures) -> list[tuple[str, str]]:
    return [
        ("requests answered", f"{side.requests:,}"),
        ("connections lost", f"{side.reconnects:,}"),
        ("errors", f"{side.wrong:,}"),
        ("longest wait", f"{side.worst * 1000:.0f} ms"),
    ]
