"""Small applications, and the messages that they send."""

import asyncio


def start(status=200, *headers):
    """The message that begins a response."""
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def part(body=b"", *, more=False):
    """The message that carries a part of a response's body."""
    return {"type": "http.response.body", "body": body, "more_body": more}


def length(size):
    """The header field content-length."""
    return b"content-length", b"%d" % size


async def whole(receive):
    """The body of the request; None if the client has gone."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts)


class Echo:
    """An application that answers with the request's body, or with ``ok`` if that is empty, and records requests.

    Attributes:
        scopes: The scope of each request.
        bodies: The body of each request; None if the client went before its end.
    """

    def __init__(self, *headers):
        self.headers = headers
        self.scopes = []
        self.bodies = []

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        body = await whole(receive)
        self.bodies.append(body)
        if body is not None:
            body = body or b"ok"
            await send(start(200, length(len(body)), *self.headers))
            await send(part(body))

    @property
    def scope(self):
        """The scope of the last request."""
        return self.scopes[-1]


LAST = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nlast"


def then_last(app):
    """An application that answers ``/last`` with `LAST`, and calls ``app`` for all other paths."""

    async def both(scope, receive, send):
        if scope["path"] == "/last":
            await send(start(200, length(4), (b"connection", b"close")))
            await send(part(b"last"))
            return None
        return await app(scope, receive, send)

    return both


def sends(*messages):
    """An application that sends these messages."""

    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    return app


class Steps:
    """An application whose calls do what the test does with `Call`: ``call = await app.next()``."""

    def __init__(self):
        self._calls = asyncio.Queue()

    async def __call__(self, scope, receive, send):
        call = Call(scope, receive, send)
        self._calls.put_nowait(call)
        return await call.done

    async def next(self):
        """Wait for the next call of the application."""
        return await self._calls.get()

    @property
    def waiting(self):
        """How many calls the test has not taken with `next`."""
        return self._calls.qsize()


class Call:
    """One call of an application. The test receives and sends in its place.

    Attributes:
        receive, send: What the server gave to the application.
        done: What the application returns or raises.
    """

    def __init__(self, scope, receive, send):
        self.scope, self.receive, self.send = scope, receive, send
        self.done = asyncio.get_running_loop().create_future()

    async def answer(self, body=b"ok", *headers):
        """Send a response, and return from the application."""
        await self.send(start(200, length(len(body)), *headers))
        await self.send(part(body))
        self.end()

    def end(self, value=None):
        """Return from the application."""
        if not self.done.done():
            self.done.set_result(value)

    def fail(self, error):
        """Let the application raise this error."""
        self.done.set_exception(error)
