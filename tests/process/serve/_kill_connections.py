"""A client's connection in the test of random kills: what it received, how it ended, and the responses in it."""

import contextlib
import re
import select
import socket
import struct
import time
from dataclasses import dataclass

LIMIT = 15  # seconds that a client waits for anything before it calls it silence
SMALL_BUFFER = 4096
_SIZE = re.compile(rb"([0-9a-fA-F]+)\r\n")


class Connection:
    """Sends and receives at the same time, so that neither side waits for the other.

    Attributes:
        data: All received bytes.
        end: "" while it is open; then eof, reset, silence (nothing came for too long) or ours (closed here).
    """

    def __init__(self, address, slow):
        unix = isinstance(address, str)
        self.sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        if slow:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        self.sock.settimeout(LIMIT)
        self.sock.connect(address)
        self.sock.setblocking(False)
        if not unix:  # each piece goes out as it is sent
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.slow = slow
        self.data = bytearray()
        self.end = ""

    def send(self, data):
        """Send all of it, unless the connection ends."""
        while data and not self.end:
            self._wait(select.POLLOUT | (0 if self.slow else select.POLLIN), LIMIT)
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                pass
            except ConnectionResetError:
                self.end = "reset"
            except BrokenPipeError:
                break  # reading tells how
            if not self.slow:
                self._read()

    def urgent(self, count):
        with contextlib.suppress(OSError):
            for _ in range(count):
                self.sock.send(b"!", socket.MSG_OOB)

    def shut(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        self.end = self.end or "ours"
        self.sock.close()

    def read_until(self, enough, seconds=LIMIT):
        """Read until the condition holds, or the end, or so many seconds have passed; return whether it holds."""
        limit = time.monotonic() + seconds
        while not enough() and not self.end:
            left = limit - time.monotonic()
            if left <= 0:
                break
            self._wait(select.POLLIN, left)
            self._read()
        return enough()

    def _wait(self, events, seconds):
        poller = select.poll()
        poller.register(self.sock, events)
        if not poller.poll(seconds * 1000) and seconds == LIMIT:
            self.end = "silence"

    def _read(self):
        while not self.end:
            try:
                some = self.sock.recv(1 << 18)
            except BlockingIOError:
                return
            except ConnectionResetError:
                self.end = "reset"
            except BrokenPipeError:  # an RST that came behind a FIN: who reads sees that first
                self.end = "eof"
            else:
                self.data += some
                self.end = "" if some else "eof"


@dataclass
class Response:
    """Attributes: whole is None if only the end of the connection could tell."""

    status: int
    headers: dict
    body: bytes
    whole: bool | None


def responses(data, methods):
    """Return the final responses to requests of these methods, and the bytes behind them; the last may be cut."""
    found = []
    for method in methods:
        while True:
            head, seen, rest = data.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 1") or not seen:
                break
            data = rest
        if not data:
            break
        if not seen:
            return [*found, Response(0, {}, data, False)], b""
        status, headers = _head(head)
        body, whole, data = _body(method, status, headers, rest)
        found.append(Response(status, headers, body, whole))
        if not whole:
            break
    return found, data


def _head(head):
    line, *fields = head.decode("latin-1").split("\r\n")
    pairs = (field.partition(":") for field in fields)
    return int(line.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


def _body(method, status, headers, rest):
    """Return the body, whether it is whole, and the bytes behind it."""
    if method == "HEAD" or status in {204, 304}:
        return b"", True, rest
    if "content-length" in headers:
        size = int(headers["content-length"])
        return rest[:size], len(rest) >= size, rest[size:]
    if headers.get("transfer-encoding") == "chunked":
        return _chunked(rest)
    return rest, None, b""


def _chunked(rest):
    body = b""
    while size := _SIZE.match(rest):
        count = int(size[1], 16)
        start, stop = size.end(), size.end() + count
        body += rest[start:stop]
        if rest[stop : stop + 2] != b"\r\n":
            return body, False, b""
        rest = rest[stop + 2 :]
        if not count:
            return body, True, rest
    return body, False, b""
