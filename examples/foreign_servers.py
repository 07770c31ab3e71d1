"""Servers that were not written for fdpass, in its workers: hypercorn, aiohttp, waitress, the library's own.

``main(listener)`` is all that they need: the listener looks like a listening socket, and its accept() returns the
connections that the dispatcher passes to this worker. Each function here can be served:

    fdpass serve foreign_servers:aiohttp --workers 4

Run this file as a program to serve each of them and print an answer. It needs aiohttp, hypercorn and waitress.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import itertools
import logging
import os
import socket
import socketserver
import subprocess
import sys
import tempfile
import urllib.request
import wsgiref.simple_server
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

import fdpass.serve

Listener = fdpass.serve.PassedListener
MODULE = os.path.splitext(os.path.basename(__file__))[0]


def page(server: str) -> bytes:
    """The answer of every server here."""
    return f"{server} in worker {os.getpid()}\n".encode()


# Servers on asyncio: they run in the worker's loop, and are cancelled when it retires.


async def hypercorn(listener: Listener) -> None:
    """An ASGI application in hypercorn. The dispatcher gets the signals, so the trigger here never fires."""
    from hypercorn.app_wrappers import ASGIWrapper  # noqa: PLC0415 - a worker imports its own server only
    from hypercorn.asyncio.run import worker_serve  # noqa: PLC0415 - a worker imports its own server only
    from hypercorn.config import Config, Sockets  # noqa: PLC0415 - a worker imports its own server only

    async def app(scope: Any, _: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": page("hypercorn")})

    config = Config()
    config.loglevel = "WARNING"
    await worker_serve(
        ASGIWrapper(app), config, sockets=Sockets([], [listener], []), shutdown_trigger=asyncio.Event().wait
    )


async def aiohttp(listener: Listener) -> None:
    """An aiohttp application."""
    from aiohttp import web  # noqa: PLC0415 - a worker imports its own server only

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=page("aiohttp"))

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


# Servers with threads: they run in a thread of the worker, and end with the worker.


def wsgi(server: str) -> Callable[[MutableMapping[str, Any], Callable[..., Any]], Iterable[bytes]]:
    """A WSGI application."""

    def app(_: MutableMapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = page(server)
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app


def waitress(listener: Listener) -> None:
    """A WSGI application in waitress."""
    from waitress.server import create_server  # noqa: PLC0415 - a worker imports its own server only

    logging.getLogger("waitress").setLevel(logging.ERROR)  # it warns when its listener ends
    create_server(wsgi("waitress"), sockets=[listener]).run()


def wsgiref_(listener: Listener) -> None:
    """A WSGI application in wsgiref, which makes a socket of its own, so that socket is replaced."""

    class Handler(wsgiref.simple_server.WSGIRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = wsgiref.simple_server.WSGIServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.set_app(wsgi("wsgiref"))
    server.server_name, server.server_port = "localhost", listener.getsockname()[1]
    server.setup_environ()
    serve_from(server, listener)


def http_server(listener: Listener) -> None:
    """http.server."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = page("http.server")
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    serve_from(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False), listener)


def threading_tcp(listener: Listener) -> None:
    """socketserver.ThreadingTCPServer, for any protocol; here HTTP by hand."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + page("socketserver"))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    serve_from(Server(("127.0.0.1", 0), Handler, bind_and_activate=False), listener)


def serve_from(server: socketserver.TCPServer, listener: Listener) -> None:
    """Make a server of the `socketserver` family accept from the listener."""
    server.socket.close()
    server.socket = listener
    server.serve_forever()


SERVERS = (hypercorn, aiohttp, waitress, wsgiref_, http_server, threading_tcp)


def main() -> None:
    """Serve all of them at the same time, and print an answer of each."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as held:
        started = []
        for server in SERVERS:
            # This process listens, and the server inherits the socket: a client that connects early waits.
            with socket.create_server(("127.0.0.1", 0)) as listener:
                port = listener.getsockname()[1]
                process = subprocess.Popen(
                    command(server.__name__, listener, folder), pass_fds=[listener.fileno()]
                )
            held.callback(process.wait)
            held.callback(process.terminate)
            started.append((process, port))
        for process, port in started:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as response:
                print(response.read().decode(), end="")
            process.terminate()
        if any(process.wait(60) for process, _ in started):
            raise SystemExit("a server failed")


def command(name: str, listener: socket.socket, folder: str) -> list[str]:
    """The command that serves one of them on an inherited listener."""
    options = {
        "--app-dir": os.path.dirname(os.path.abspath(__file__)),
        "--bind": f"fd://{listener.fileno()}",
        "--control": os.path.join(folder, name),
        "--workers": "1",
        "--log-level": "warning",
    }
    return [sys.executable, "-m", "fdpass", "serve", f"{MODULE}:{name}", *itertools.chain(*options.items())]


if __name__ == "__main__":
    main()
