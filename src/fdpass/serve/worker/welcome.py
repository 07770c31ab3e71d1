"""The application that `fdpass serve` runs if the user names none: it says which worker served the request."""

from __future__ import annotations

import os
import sys
from typing import Any

import fdpass

_TEXT = """fdpass {version} works.
This was request {count} of worker {pid}; Python {python}.
"""
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>fdpass works</title>
<style>
  body {{ font: 1.1rem/1.6 system-ui, sans-serif; max-width: 36rem; margin: 15vh auto; padding: 0 1rem }}
  code, b {{ font-family: ui-monospace, monospace }}
  @media (prefers-color-scheme: dark) {{ body {{ background: #111; color: #ddd }} }}
</style>
<h1>fdpass works</h1>
<p>Worker <b>{pid}</b> served you; it was its request {count}.
<p>Another connection goes to another worker. To serve your own application:
<p><code>fdpass serve shop.main:app</code>
<p><small>fdpass {version}, Python {python}</small>
</html>
"""


class _Welcome:
    def __init__(self) -> None:
        self._count = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _run_lifespan(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    async def _answer(self, scope: Any, send: Any) -> None:
        self._count += 1
        html = any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])
        text = (_PAGE if html else _TEXT).format(
            version=fdpass.__version__,
            pid=os.getpid(),
            count=self._count,
            python=sys.version.split()[0],
        )
        body = text.encode()
        headers = [
            (b"content-type", b"text/html; charset=utf-8" if html else b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _run_lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


app = _Welcome()
