"""`Client`: the far end of an exchange, in the loop of the servers."""

import contextlib
import re
import socket
import struct

from .quiet import SOON, arrived, written

ROOM = 1 << 20  # bytes that a socket takes: more than the longest entry
_CLOSE = 7
_ENDED = (6, _CLOSE, 8, 9, 11)  # TCP states in which the other side's end has come


class Client:
    """A connection to one of them, read as fast as something comes."""

    def __init__(self, loop, address):
        self._loop = loop
        self._out = b""
        self._state = "kept"
        self._sock = sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect(address)
        self._at_first = written(sock)
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._read)

    def _read(self):
        try:
            data = self._sock.recv(ROOM)
        except ConnectionError:
            self._state = "reset"
        else:
            self._out += data
            if not data:
                self._state = "ended"
        if self._state != "kept":
            self._loop.remove_reader(self._sock.fileno())

    def say(self, data):
        """Send this, or nothing for a time: what comes back until it is quiet, and how the connection stands."""
        if isinstance(data, float):
            return self._look(data)
        with contextlib.suppress(ConnectionError):  # it has ended already
            assert self._sock.send(data) == len(data), "a socket has no room for an entry"
        return self._look()

    def end(self):
        """Say that nothing more will come; likewise."""
        with contextlib.suppress(OSError):  # ENOTCONN: it was reset
            self._sock.shutdown(socket.SHUT_WR)
        return self._look()

    def _look(self, seconds=SOON):
        self._loop.settle(seconds)
        out, self._out = self._out, b""
        return without_dates(out), self._state

    def is_moving(self, served):
        """Whether something is on its way, either way."""
        state = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        if served.fileno() < 0:
            return state not in _ENDED
        there = written(self._sock) - self._at_first > arrived(served)
        return state != _CLOSE and (there or written(served) > arrived(self._sock))

    def close(self):
        """Leaves no TIME_WAIT: there are more exchanges than ports."""
        self._loop.remove_reader(self._sock.fileno())
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


def without_dates(out):
    """What came back, but for what says when."""
    return re.sub(rb"\r\ndate: [^\r]*", b"", out, flags=re.IGNORECASE)
