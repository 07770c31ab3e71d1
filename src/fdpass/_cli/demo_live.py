"""``fdpass demo live``: a WebSocket and an event stream go on while workers are killed and reloaded."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import signal
import sys
import tempfile
from operator import itemgetter

import click

from fdpass._cli.demo_live_show import LiveShow
from fdpass._cli.demo_server import Place, kill_any, require, running
from fdpass._cli.signals import stop_on
from fdpass._cli.streams import echo
from fdpass._words import counted
from fdpass.errors import FdpassError
from fdpass.serve.operator.client import ask

_WORKERS = 2
_KILL_EVERY, _RELOAD_EVERY = 3.0, 10.0  # seconds
_LOOK_EVERY = 0.25
_FLAGS = ("--resume", "/live", "--graceful-timeout", "2")  # after which event streams leave a retiring worker


@click.command(
    "live",
    epilog="""Examples:

\b
  fdpass demo live
  fdpass demo live --seconds 600 --port 8000

The exit code is 0 if no connection of the terminal's own broke, also after Ctrl-C, and else 1.""",
)
@click.option(
    "--seconds", type=click.FloatRange(1, 86400), default=60.0, show_default=True, help="Duration of the run."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port of the page on 127.0.0.1.  [default: a free port]",
)
def live(seconds: float, port: int) -> None:
    """Show a WebSocket and an event stream that go on while workers are killed and reloaded.

    Starts a server with --resume, and prints the URL of a page. The page has a WebSocket and an EventSource, which
    count; it shows which worker (pid) serves each of them, how often another worker has resumed it, and how often
    the browser had to connect again. Every 3 seconds a worker with connections gets kill -9, if a spare one is
    ready; every 10 seconds the server reloads.

    The terminal shows the same for two connections of its own, which check every count: as a picture on a terminal
    if rich is installed, else as lines. Ctrl-C ends the demonstration early.
    """
    require("websockets.asyncio.client")
    stop_on(signal.SIGTERM, signal.SIGHUP)  # while the server starts
    with (
        tempfile.TemporaryDirectory(prefix="fdpass-") as folder,
        running(folder, "fdpass._cli.demo_live_app:app", *_FLAGS, workers=_WORKERS, port=port) as place,
    ):
        show = asyncio.run(_run(place, seconds, draws=_can_draw()))
    _print_summary(show)
    if show.broken:
        raise click.exceptions.Exit(1)


def _can_draw() -> bool:
    if not sys.stdout.isatty():
        return False
    try:
        importlib.import_module("rich.live")
    except ImportError:
        return False
    return True


async def _run(place: Place, seconds: float, *, draws: bool) -> LiveShow:
    from fdpass._cli.demo_live_client import play_events, play_websocket  # noqa: PLC0415 - needs websockets

    host, _, port = place.address.rpartition(":")
    show = LiveShow(f"http://{place.address}/", seconds, None if draws else echo)
    if not draws:
        echo(f"The page: {show.url}")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, show.over.set)
    socket, events = show.streams
    async with asyncio.TaskGroup() as tasks:
        clients = [
            tasks.create_task(play_websocket(show, socket, (host, int(port)))),
            tasks.create_task(play_events(show, events, (host, int(port)))),
        ]
        tasks.create_task(_kill(show))
        tasks.create_task(_reload(show, place))
        tasks.create_task(_look(show, place))
        if draws:
            tasks.create_task(_draw(show))
        await asyncio.wait(clients)
        place.stop()  # now: a reload in progress would hold the end up until its workers are ready
    return show


async def _kill(show: LiveShow) -> None:
    while await show.wait(_KILL_EVERY):
        ready = [worker for worker in show.status["workers"] if worker["state"] == "ready"]
        if len(ready) <= _WORKERS:  # the next spare worker still starts
            continue
        busy = [worker for worker in ready if worker["connections"]]
        oldest = sorted(busy, key=itemgetter("generation", "pid"))[:1]  # so that each connection has its turn
        if victim := kill_any(oldest):
            show.kills += 1
            had = counted(victim["connections"], "connection")
            show.add_event(f"kill -9 worker {victim['pid']}, which had {had}")


async def _reload(show: LiveShow, place: Place) -> None:
    while await show.wait(_RELOAD_EVERY):
        try:
            answer = await asyncio.to_thread(ask, place.control, "reload")
        except FdpassError as error:  # a kill may hit a starting worker of the next generation
            show.add_event(None if show.over.is_set() else f"reload refused: {error}")
        else:
            show.reloads += 1
            show.add_event(f"reload: generation {answer['generation']} serves")


async def _look(show: LiveShow, place: Place) -> None:
    while await show.wait(_LOOK_EVERY):
        with contextlib.suppress(FdpassError):
            show.status = await asyncio.to_thread(ask, place.control, "status")


async def _draw(show: LiveShow) -> None:
    from rich.live import Live  # noqa: PLC0415 - only where it is installed

    from fdpass._cli.demo_live_picture import picture  # noqa: PLC0415

    with Live(picture(show), refresh_per_second=8, transient=True) as drawn:
        while await show.wait(_LOOK_EVERY):
            drawn.update(picture(show))


def _print_summary(show: LiveShow) -> None:
    echo(f"{counted(show.kills, 'worker')} killed with kill -9, {counted(show.reloads, 'reload')}")
    for stream in show.streams:
        echo(
            f"{stream.name}: counted to {stream.count}, resumed {counted(stream.resumed, 'time')}, "
            f"lost or twice: {stream.wrong}, broken: {stream.broken}"
        )
