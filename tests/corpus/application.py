"""The application that the corpus is sent to: in this process, and in those of real servers."""

import zlib


class Application:
    """Does what the path says, and records what it is called for.

    Attributes:
        seen: Of each call, the request; and what came of its body.
    """

    def __init__(self):
        self.seen = []

    async def __call__(self, scope, receive, send):
        path, kind = scope["path"], scope["type"]
        about = (scope.get("method"), scope["raw_path"], scope["query_string"], scope["http_version"])
        self.seen.append((kind, *about, zlib.crc32(repr(scope["headers"]).encode())))
        if path == "/fail":
            raise RuntimeError("before the head")
        if kind == "websocket":
            await self._talk(path, receive, send)
            return
        body = b""
        while path not in {"/early", "/close"}:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.seen.append(("gone", len(body)))
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.seen.append((len(body), zlib.crc32(body)))
        if path == "/wait":
            self.seen.append((await receive())["type"])
            return
        text = f"{scope['method']} {path} {len(body)}\n".encode("latin-1", "replace")
        await self._answer(path, text, receive, send)

    async def _answer(self, path, text, receive, send):
        parts, headers, status = [text], [], 200
        if path == "/large":
            parts = [text * 10_000]
        elif path in {"/parts", "/half", "/sized", "/stuck"}:
            parts = [text, b"more", b"last"]
        elif path == "/204":
            parts, status = [b""], 204
        if path in {"/", "/sized", "/large"}:
            headers.append((b"content-length", b"%d" % sum(map(len, parts))))
        if path == "/close":
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for number, part in enumerate(parts, 1):
            await send({"type": "http.response.body", "body": part, "more_body": number < len(parts)})
            if path == "/half":
                raise RuntimeError("after a part")
            if path == "/stuck":
                self.seen.append((await receive())["type"])
                return
        self.seen.append("answered")

    async def _talk(self, path, receive, send):
        self.seen.append((await receive())["type"])
        if path == "/refuse":
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": path})
        while (message := await receive())["type"] == "websocket.receive":
            self.seen.append(message.get("text"))
            await send({"type": "websocket.send", "text": message.get("text") or ""})
        self.seen.append((message["type"], message["code"]))


app = Application()
