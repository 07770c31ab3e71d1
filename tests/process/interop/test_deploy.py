"""The files of examples/deploy with real nginx and HAProxy: no client notices that workers die or are replaced."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[3] / "examples" / "deploy"
LIMIT = 60
CLIENTS, LAST = 6, 20  # clients, and how many requests each sends once everything has happened
STREAMS = 20
APP = """
import os

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"event", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        with open("gone", "a") as file:
            file.write(".")
        return
    client = scope["client"] or [""]
    body = f"{os.getpid()} {client[0]} {scope['query_string'].decode()}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture
def app_server(tmp_path, start):
    """``app_server(*flags)``: a running `fdpass serve`, and a function that runs a command for it."""
    (tmp_path / "shop.py").write_text(APP)
    control = tmp_path / "control"

    def fdpass(*arguments):
        command = [sys.executable, "-m", "fdpass", *arguments, "--control", control]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=LIMIT, cwd=tmp_path
        ).stdout

    def run(*flags):
        command = [sys.executable, "-m", "fdpass", "serve", "shop:app", "--workers", "2", "--spare", "1"]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(tmp_path / "notify"))
            notify.settimeout(LIMIT)
            environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
            start(*command, *flags, "--control", control, cwd=tmp_path, env=environment)
            while b"READY=1" not in notify.recv(4096):
                pass
        return fdpass

    return run


async def ask(port, name, happened):
    """Send requests over one connection; return the answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers, left = [], LAST
    while left:
        left -= happened.is_set()
        number = len(answers)
        writer.write(f"GET /?{name}-{number} HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        pid, client, token = (await reader.readexactly(length)).decode().split(" ")
        assert token == f"{name}-{number}"
        answers.append((int(pid), client))
        await asyncio.sleep(0.02)
    writer.close()
    await writer.wait_closed()
    return answers


async def play(port, fdpass):
    """Clients ask while a worker is killed and the server reloads. Returns all answers."""
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
        happened = asyncio.Event()
        clients = [tasks.create_task(ask(port, f"client{number}", happened)) for number in range(CLIENTS)]
        await asyncio.sleep(0.2)
        status = json.loads(await asyncio.to_thread(fdpass, "status", "--json"))
        os.kill(next(each["pid"] for each in status["workers"] if each["state"] == "ready"), signal.SIGKILL)
        await asyncio.to_thread(fdpass, "reload")
        happened.set()
    return [answer for client in clients for answer in client.result()]


async def wait_for(port):
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def test_nginx(tool, tmp_path, start, app_server):
    program, port, path = tool("nginx"), free_port(), tmp_path / "app.sock"
    fdpass = app_server("--bind", f"unix:{path}", "--keep-alive", "75")
    site = (DEPLOY / "nginx.conf").read_text()
    for ours, theirs in (("/run/fdpass/app.sock", str(path)), ("listen 80;", f"listen 127.0.0.1:{port};")):
        assert ours in site
        site = site.replace(ours, theirs)
    (tmp_path / "site.conf").write_text(site)
    folders = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.getuid() == 0 else ""  # else nginx's workers cannot enter the test's folder
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; {user}pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {folders} include {tmp_path}/site.conf; }}\n"
    )
    start(program, "-e", "stderr", "-p", tmp_path, "-c", tmp_path / "nginx.conf")
    asyncio.run(wait_for(port))
    answers = asyncio.run(play(port, fdpass))
    assert len({pid for pid, _ in answers}) > 2


async def stream(port):
    """Wait for the first event of a stream, and close the connection. Returns how long the event took."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /stream HTTP/1.1\r\nHost: shop\r\n\r\n")
    async with asyncio.timeout(LIMIT):
        await reader.readuntil(b"event\r\n")
    took = time.monotonic() - began
    writer.close()
    await writer.wait_closed()
    return took


def test_haproxy(tool, tmp_path, start, app_server):
    """The application sees the client's address, which the PROXY header names, and a client's end.

    HAProxy does not hold events back: without http-no-delay each one would take 200 ms.
    """
    program, port, behind = tool("haproxy"), free_port(), free_port()
    fdpass = app_server("--bind", f"127.0.0.1:{behind}", "--proxy-protocol", "--keep-alive", "75")
    text = (DEPLOY / "haproxy.cfg").read_text()
    for ours, theirs in (
        ("0.0.0.0:80\n", f"127.0.0.1:{port}\n"),
        ("127.0.0.1:8000 send", f"127.0.0.1:{behind} send"),
    ):
        assert ours in text
        text = text.replace(ours, theirs)
    (tmp_path / "haproxy.cfg").write_text(text)
    start(program, "-db", "-q", "-f", tmp_path / "haproxy.cfg")
    asyncio.run(wait_for(port))
    answers = asyncio.run(play(port, fdpass))
    assert {client for _, client in answers} == {"127.0.0.1"}
    assert len({pid for pid, _ in answers}) > 2
    assert min(asyncio.run(stream(port)) for _ in range(STREAMS)) < 0.15
    until = time.monotonic() + LIMIT / 3  # less than HAProxy's "timeout server"
    while not (gone := tmp_path / "gone").exists() or gone.stat().st_size < STREAMS:
        assert time.monotonic() < until
        time.sleep(0.02)
