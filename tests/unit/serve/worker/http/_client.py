"""`Client`: a client's end of a connection, in the event loop of the server. It reads only when a test reads."""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from dataclasses import dataclass

from ._apps import LAST

_MOST = 1 << 18  # bytes of one read
_TURNS = 60  # turns of the loop without an event after which a test takes the server to be waiting


@dataclass(frozen=True)
class Answer:
    """A response.

    Attributes:
        version: The protocol in its first line.
        fields: The header fields in order, with the names as the server wrote them.
        sizes: The size of each chunk; None if the response has no chunks.
        trailers: The fields after the last chunk.
    """

    version: bytes
    status: int
    reason: bytes
    fields: tuple
    body: bytes = b""
    sizes: tuple | None = None
    trailers: tuple = ()

    def __getitem__(self, name):
        """The value of a field; None without the field. The field must not be repeated."""
        found = self.all(name)
        assert len(found) < 2, f"{name} is repeated: {found}"
        return found[0] if found else None

    def all(self, name):
        """The values of all fields with this name."""
        return [value for key, value in self.fields if key.lower() == name]

    @property
    def names(self):
        """The names of all fields except date."""
        return [name for name, _ in self.fields if name.lower() != b"date"]


class Cut(AssertionError):
    """The connection ended in the middle of a response."""


class Client:
    """A connection to a server.

    Attributes:
        sock: Its socket.
        served: The server's socket.
        data: Bytes that were read and that no method has returned yet.
    """

    def __init__(self, sock, served):
        self.sock = sock
        self.served = served
        self.data = b""
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)

    # What goes

    async def send(self, *data):
        """Send these bytes."""
        for each in data:
            await self._put(each)

    async def _put(self, data):
        await self._loop.sock_sendall(self.sock, data)

    async def fill(self, size):
        """Send at most ``size`` bytes, as long as the server takes them; return how many it took."""
        sent = idle = 0
        while idle < _TURNS and sent < size:
            try:
                sent += self.sock.send(bytes(min(size - sent, _MOST)))
                idle = 0
            except BlockingIOError:
                idle += 1
                await asyncio.sleep(0)
        return sent

    async def request(self, target=b"/", *fields, method=b"GET", body=None, version=b"1.1"):
        """Send a request: header fields as lines, the body in one piece with a content-length."""
        lines = [b"%b %b HTTP/%b" % (method, target, version), b"Host: x", *fields]
        if body is not None:
            lines.append(b"Content-Length: %d" % len(body))
        await self.send(b"\r\n".join([*lines, b"", b""]) + (body or b""))

    async def get(self, target=b"/", *fields, **options):
        """Send a request, and read the answer."""
        await self.request(target, *fields, **options)
        return await self.answer(head=options.get("method") == b"HEAD")

    async def end(self):
        """End the client's sending side."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        """Reset the connection."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        """Close the connection."""
        self.sock.close()

    # What comes

    async def _get(self):
        """Read some bytes; b"" at the end."""
        return await self._loop.sock_recv(self.sock, _MOST)

    async def _more(self):
        data = await self._get()
        if not data:
            raise Cut(f"the connection ended after {self.data[-200:]!r}")
        self.data += data

    async def until(self, end):
        """Read up to these bytes, and return what came before them."""
        while end not in self.data:
            await self._more()
        found, self.data = self.data.split(end, 1)
        return found

    async def exactly(self, size):
        """Read exactly ``size`` bytes."""
        parts, count = [self.data], len(self.data)
        while count < size:
            self.data = b""
            await self._more()
            parts.append(self.data)
            count += len(self.data)
        whole = b"".join(parts)
        self.data = whole[size:]
        return whole[:size]

    async def rest(self):
        """Read up to the end of the connection."""
        parts = [self.data]
        self.data = b""
        while data := await self._get():
            parts.append(data)
        return b"".join(parts)

    async def outcome(self, over):
        """What the server sent by the time the request is ``over``, without dates, and ``kept`` or ``ended``.

        The connection is kept if the server answers another request on it, with `LAST`.
        """
        await over()
        await turns(20)
        with contextlib.suppress(ConnectionError):
            await self.send(b"GET /last HTTP/1.1\r\nHost: x\r\n\r\n")
        out, _ = await self.out()
        if out.endswith(LAST):
            return out.removesuffix(LAST), "kept"
        return out, "ended"

    async def out(self):
        """Read up to the end: the bytes without dates, and how the connection ended: ``closed`` or ``reset``."""
        parts, end = [self.data], "closed"
        try:
            while data := await self._get():
                parts.append(data)
        except ConnectionError:
            end = "reset"
        return re.sub(rb"\r\ndate: [^\r]*", b"", b"".join(parts)), end

    async def ended(self):
        """Whether the connection ends without another byte."""
        return await self.rest() == b""

    async def is_cut(self):
        """Whether the connection ends with an error, or before the end of the response."""
        try:
            await self.answer()
        except (Cut, ConnectionError):
            return True
        return False

    async def quiet(self):
        """Whether the server sends nothing for many turns of the loop."""
        task = self._loop.create_task(self._get())
        await turns()
        if task.done():
            self.data += task.result()
        else:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return not self.data

    async def answer(self, *, head=False):
        """Read one response. ``head``: it answers HEAD, and so has no body."""
        first, *lines = (await self.until(b"\r\n\r\n")).split(b"\r\n")
        version, code, *reason = first.split(b" ", 2)
        fields = tuple(tuple(line.split(b": ", 1)) for line in lines)
        start = Answer(version, int(code), b"".join(reason), fields)
        coding, length = start[b"transfer-encoding"], start[b"content-length"]
        assert not (coding and length), fields
        if head or start.status < 200 or start.status in {204, 304}:
            return start
        if coding:
            body, sizes, trailers = await self._chunks()
            return Answer(version, int(code), start.reason, fields, body, sizes, trailers)
        body = await self.rest() if length is None else await self.exactly(int(length))
        return Answer(version, int(code), start.reason, fields, body)

    async def _chunks(self):
        parts = []
        while size := int(await self.until(b"\r\n"), 16):
            parts.append(await self.exactly(size))
            assert await self.exactly(2) == b"\r\n"
        trailers = []
        while line := await self.until(b"\r\n"):
            trailers.append(tuple(line.split(b": ", 1)))
        return b"".join(parts), tuple(map(len, parts)), tuple(trailers)


class TlsClient(Client):
    """A client that speaks TLS; its methods read and write what TLS carries."""

    def __init__(self, sock, served, context):
        super().__init__(sock, served)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")

    async def shake_hands(self):
        """Do the TLS handshake."""
        await self._do(self._tls.do_handshake)

    async def _do(self, act, *arguments):
        while True:
            try:
                done = act(*arguments)
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._loop.sock_recv(self.sock, _MOST)
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            else:
                await self._flush()
                return done

    async def _flush(self):
        if self._out.pending:
            await self._loop.sock_sendall(self.sock, self._out.read())

    async def _put(self, data):
        await self._do(self._tls.write, data)

    async def _get(self):
        try:
            data = await self._do(self._tls.read, _MOST)
        except ssl.SSLZeroReturnError:  # OpenSSL raises this once this side has sent close_notify
            return b""
        except (
            ssl.SSLError
        ) as error:  # the server sent no close_notify; Python 3.11.2 has no type of its own for it
            if isinstance(error, ssl.SSLEOFError) or error.reason == "UNEXPECTED_EOF_WHILE_READING":
                raise ConnectionResetError from error
            raise
        if not data:
            with contextlib.suppress(ConnectionError):
                await self.end()  # asyncio's server waits for our close_notify
        return data

    async def fill(self, size):
        """See `Client.fill`."""
        sent = idle = 0
        while idle < _TURNS and sent < size:
            if not self._out.pending:
                sent += self._tls.write(bytes(min(size - sent, 1 << 14)))
            data = self._out.read()
            try:
                count = self.sock.send(data)
                idle = 0
            except BlockingIOError:
                count = 0
                idle += 1
                await asyncio.sleep(0)
            self._out.write(data[count:])
        return sent

    async def end(self):
        """See `Client.end`: send close_notify."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()


async def turns(count=_TURNS):
    """Let the event loop turn ``count`` times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def noticed(serve, end="close"):
    """Wait until the server has noticed the client's end. fdpass keeps a connection that may be half-closed."""
    if serve.kind in {"custody", "plain"} and end == "close":
        await turns(30)
    else:
        await serve.server.settled.wait()
