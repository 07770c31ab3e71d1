"""Make the pictures of the dashboard: ``python docs/screenshots.py [FOLDER]``.

It needs Chromium and the extra ``dev``.

It starts a server, clients, and a dashboard, kills workers and reloads meanwhile, and photographs the page in a
light and a dark scheme, and on a screen of a phone's size.
"""

import asyncio
import base64
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "process"))

from _chromium import Browser  # type: ignore[import-not-found]  # noqa: E402 - the tests' browser

from fdpass.errors import FdpassError  # noqa: E402
from fdpass.serve.operator.client import ask  # noqa: E402

APP = """
import asyncio, random

PAGES = {
    "/": (200, 0.004), "/cart": (200, 0.012), "/search": (200, 0.03), "/old": (302, 0.001), "/lost": (404, 0.001)
}

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError("HTTP alone")
    status, seconds = PAGES[scope["path"]]
    await asyncio.sleep(random.lognormvariate(0, 0.7) * seconds)
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2000")]})
    await send({"type": "http.response.body", "body": bytes(2000)})
"""
CLIENTS, SECONDS = 90, 75.0
KILL_EVERY, RELOAD_EVERY = 11.0, 30.0
SCREENS = {  # width, height, scheme, pixels per point, whole page
    "light": (1280, 900, "light", 1, True),
    "dark": (1280, 900, "dark", 1, True),
    "phone": (390, 844, "dark", 2, False),
}


async def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="fdpass-") as name, contextlib.ExitStack() as held:
        control, address = f"{name}/shop.sock", ("127.0.0.1", free_port())
        os.makedirs(f"{name}/shop")
        Path(name, "shop", "main.py").write_text(APP)
        flags = ["--workers", "4", "--spare", "1", "--control", control, "--bind", "{}:{}".format(*address)]
        run(held, name, "serve", "shop.main:app", *flags)
        url = run(held, name, "dashboard", "--bind", "127.0.0.1:0", "--control", control, "--allow-actions")
        await until_ready(control)
        tasks = [asyncio.create_task(client(address)) for _ in range(CLIENTS)]
        tasks += [asyncio.create_task(kill(control)), asyncio.create_task(reload(control))]
        browser = Browser(name)
        held.callback(browser.close)
        browser.open(url)
        await asyncio.sleep(SECONDS)
        for screen, (width, height, scheme, scale, whole) in SCREENS.items():
            size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": not whole}
            browser.call("Emulation.setDeviceMetricsOverride", **size)
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            browser.call("Emulation.setEmulatedMedia", features=features)
            await asyncio.sleep(2.5)  # transitions
            picture = browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
            path = folder / f"dashboard-{screen}.png"
            path.write_bytes(base64.b64decode(picture["data"]))
            print(path)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def run(held: contextlib.ExitStack, folder: str, *arguments: str) -> str:
    """Start a command, which ends with the pictures; returns the URL of the dashboard, if it is one."""
    process = held.enter_context(
        subprocess.Popen(
            [sys.executable, "-m", "fdpass", *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    )
    held.callback(process.terminate)
    if arguments[0] != "dashboard":
        return ""
    assert process.stdout is not None
    return process.stdout.readline().split()[-1]


async def until_ready(control: str) -> None:
    while True:
        with contextlib.suppress(FdpassError):
            if sum(worker["state"] == "ready" for worker in ask(control, "status")["workers"]) == 5:
                return
        await asyncio.sleep(0.1)


async def client(address: tuple[str, int]) -> None:
    """Requests with pauses, over connections that end now and then."""
    while True:
        with contextlib.suppress(OSError, EOFError):
            reader, writer = await asyncio.open_connection(*address)
            for _ in range(random.randint(3, 60)):
                path = random.choices(["/", "/cart", "/search", "/old", "/lost"], [60, 20, 12, 5, 3])[0]
                writer.write(f"GET {path} HTTP/1.1\r\nhost: shop\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                if b" 502 " in head:
                    break
                await reader.readexactly(2000)
                await asyncio.sleep(random.expovariate(4))
            writer.close()


async def kill(control: str) -> None:
    while True:
        await asyncio.sleep(KILL_EVERY)
        ready = [worker for worker in ask(control, "status")["workers"] if worker["connections"]]
        with contextlib.suppress(ProcessLookupError):
            os.kill(random.choice(ready)["pid"], signal.SIGKILL)


async def reload(control: str) -> None:
    while True:
        await asyncio.sleep(RELOAD_EVERY)
        with contextlib.suppress(FdpassError):
            await asyncio.to_thread(ask, control, "reload")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"))
