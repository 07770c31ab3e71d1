"""A client of WebSockets, byte by byte, without a library; and what tests of open WebSockets share."""

import json
import socket
import zlib
from pathlib import Path

LIMIT = 60
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
SETTLED = (0x80 | PONG, b"settled?")
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def frame(data, opcode=TEXT, *, first=0x80, mask=b"\x01\x02\x03\x04"):
    """A client's frame; ``first``: the bits of the first byte besides the opcode."""
    data = data.encode() if isinstance(data, str) else data
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2) if size < 65536 else b""
    length = length or b"\xff" + size.to_bytes(8)
    return bytes([first | opcode]) + length + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))


class WebSocket:
    """A client.

    Attributes:
        sock: Its connection.
        head: The head of the answer to the handshake.
    """

    def __init__(self, address, path="/ws", *, room=0, before=b"", **headers):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family)
        self.sock.settimeout(LIMIT)
        if room:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.sock.connect(address)
        self._file = self.sock.makefile("rb")
        lines = [f"GET {path} HTTP/1.1", "host: test", "connection: Upgrade", "upgrade: websocket"]
        lines += ["sec-websocket-version: 13", f"sec-websocket-key: {KEY}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.sock.sendall(before + "\r\n".join([*lines, "", ""]).encode())
        self.head = ""

    def close(self):
        self._file.close()
        self.sock.close()

    def opened(self):
        """Read the answer to the handshake, a 101; returns the client."""
        self.head = self._head()
        assert self.head.startswith("HTTP/1.1 101 "), self.head
        return self

    def refused(self):
        """Read the answer to the handshake, and all that follows; returns the status."""
        self.head = self._head()
        self._file.read()
        return int(self.head.split()[1])

    def _head(self):
        lines = []
        while (line := self._file.readline()).strip():
            lines.append(line.decode())
        return "".join(lines).lower().replace("http/", "HTTP/")

    def say(self, data, opcode=TEXT, **options):
        """Send one frame."""
        self.sock.sendall(frame(data, opcode, **options))

    def hear_frame(self):
        """Read one frame: its first byte, and its data. A pong to `settle` can come again from another worker."""
        while (found := self._frame()) == SETTLED:
            pass
        return found

    def _frame(self):
        first, size = self._exactly(2)
        if size >= 126:
            size = int.from_bytes(self._exactly(2 if size == 126 else 8))
        return first, self._exactly(size)

    def _exactly(self, size):
        data = self._file.read(size)
        if len(data) < size:
            raise EOFError(f"the server ended the connection after {data!r}")
        return data

    def hear(self):
        """Read one message: its text; or the code of a close frame."""
        first, data = self.hear_frame()
        if first & 15 == CLOSE:
            return int.from_bytes(data[:2])
        if first & 0x40:  # compressed, without context
            data = zlib.decompressobj(-15).decompress(data + b"\0\0\xff\xff")
        return data.decode() if first & 15 == TEXT else data

    def ask(self, text):
        """Send a message, and read the answer."""
        self.say(text)
        return self.hear()

    def settle(self):
        """Wait until the application has asked for the next message: a pong comes after that."""
        self.say(b"settled?", PING)
        assert self._frame() == SETTLED
        return self

    def is_reset(self):
        """Read to the end; returns whether that is a reset."""
        try:
            self._file.read()
        except ConnectionResetError:
            return True
        return False

    def is_closed(self):
        """Whether the server ends the connection with nothing more."""
        return self._file.read() == b""


class Noted:
    """What ``live_app.py`` has noted."""

    def __init__(self, server, wait_until):
        self._server = server
        self._wait_until = wait_until

    def lines(self):
        """All texts and process numbers."""
        path = Path(self._server.folder, "noted")
        lines = path.read_text().splitlines() if path.exists() else []
        return [(text, int(pid)) for text, pid in map(str.split, lines)]

    def wait(self, text, count=1):
        """Wait until the text was noted so many times; returns the worker that noted it last."""

        def look():
            found = [pid for noted, pid in self.lines() if noted == text]
            return len(found) >= count and found[-1]

        return self._wait_until(look, f"{text} is noted: ", lambda: f"{self.lines()}\n{self._server.log()}")


def about(client):
    """What the application says of itself. It has asked for the next message by then."""
    told = json.loads(client.ask("about"))
    client.settle()
    return told
