"""`run`: a whole dashboard: its listening sockets, the watch over the servers, and uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterator

import uvicorn

from fdpass._dashboard import agent_check
from fdpass._dashboard.app import App
from fdpass._dashboard.gate import Gate
from fdpass._dashboard.protocol import Protocol
from fdpass._dashboard.server import Server
from fdpass._dashboard.settings import Settings
from fdpass._dashboard.watch import Watch
from fdpass._supervision.addresses import listen_tcp, name_of, resolve
from fdpass.errors import AddressInUse

log = logging.getLogger("fdpass.dashboard")

_BACKLOG = 128
_PAUSE = 0.5  # seconds until an address in use is tried again
_LAST_SECONDS = 1  # for responses in progress at the end


class _Uvicorn(uvicorn.Server):
    """uvicorn, whose end `run` decides."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def run(settings: Settings, ready: Callable[[str], None], parent: socket.socket | None = None) -> None:
    """Serve until SIGTERM, SIGINT, or the end of the parent.

    Args:
        settings: The settings.
        ready: Is called with the URL once the dashboard listens.
        parent: A socket whose other end only the parent has. With a parent, an address in use is waited for: the
            server before this one may still have it. Lent.

    Raises:
        AddressInUse: Another program listens at one of the addresses.
        ConfigError: A host has no address.
    """
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    if parent is not None:
        loop.add_reader(parent, ended.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    servers = [Server(watched, settings.capacity) for watched in settings.servers]
    watch = Watch(servers, actions=bool(settings.token))
    app = App(watch, Gate(settings.token, only_local=settings.only_local))
    async with contextlib.AsyncExitStack() as held:
        await held.enter_async_context(_running(watch, ended))
        socks = await _listen(settings, servers, held, ended if parent is not None else None)
        if ended.is_set():
            return
        ready(_url(name_of(socks[0]), settings.token))
        await _serve(app, socks, ended, watch)


@contextlib.asynccontextmanager
async def _running(watch: Watch, ended: asyncio.Event) -> AsyncIterator[None]:
    """Poll meanwhile. A dashboard that does not poll any more must end, and not show old figures."""
    polling = asyncio.create_task(watch.run())
    polling.add_done_callback(lambda _: ended.set())
    try:
        yield
    finally:
        polling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await polling


async def _serve(app: App, socks: list[socket.socket], ended: asyncio.Event, watch: Watch) -> None:
    config = uvicorn.Config(
        app,
        http=Protocol,
        loop="none",
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        log_level="error",  # a warning of each malformed request: a client could fill the log
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,  # which is also how many connections asyncio accepts at a time
        timeout_graceful_shutdown=_LAST_SECONDS,
    )
    server = _Uvicorn(config)
    serving = asyncio.create_task(server.serve(sockets=socks))
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    server.should_exit = True
    await watch.close()
    await serving


async def _listen(
    settings: Settings, servers: list[Server], held: contextlib.AsyncExitStack, waits_until: asyncio.Event | None
) -> list[socket.socket]:
    """Listen at all addresses, and return the sockets of the page. With an event, wait until it is set."""
    logged = False
    while True:
        try:
            async with contextlib.AsyncExitStack() as ours:
                socks = listeners(settings.host, settings.port, "--bind")
                for sock in socks:
                    ours.callback(sock.close)
                await _listen_for_haproxy(settings, servers, ours)
                held.push_async_exit(ours.pop_all())
                return socks
        except AddressInUse as error:
            if waits_until is None:
                raise
            if not logged:
                log.warning("the dashboard waits: %s", error.strerror)
                logged = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(waits_until.wait(), _PAUSE)
            return []


async def _listen_for_haproxy(settings: Settings, servers: list[Server], held: contextlib.AsyncExitStack) -> None:
    by_name = {server.name: server for server in servers}
    for check in settings.agent_checks:
        server = by_name[check.server]
        for sock in listeners(check.host, check.port, "--agent-check"):
            agent = await agent_check.serve(sock, lambda server=server: server.state.agent_line)  # type: ignore[misc]
            held.callback(agent.close)
            log.info("agent-check of %s at %s", server.name, name_of(sock))


def listeners(host: str, port: int, option: str) -> list[socket.socket]:
    """Listen at each address of a host; the caller owns the sockets.

    Raises:
        AddressInUse: Another program listens there.
        ConfigError: The host has no address.
    """
    where = f"{option} {host}:{port}"
    socks: list[socket.socket] = []
    try:
        for family, address in resolve(host, port, where):
            socks.append(listen_tcp(family, address, _BACKLOG, where, only_ipv6=True))
    except BaseException:
        for sock in socks:
            sock.close()
        raise
    return socks


def _url(name: str, token: str) -> str:
    """The page's URL. A browser does not send what stands behind #: the token is in no log of a proxy."""
    return f"http://{name}/" + (f"#token={urllib.parse.quote(token, safe='')}" if token else "")
