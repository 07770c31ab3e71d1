"""A real connection in custody: the dispatcher's duplicate, a worker's end, and its client."""

import os
import socket

import pytest

from fdpass._memory import common, mapped
from fdpass._supervision.loop import Loop
from fdpass.serve.dispatcher.custody import Custody
from fdpass.serve.dispatcher.kernel_counters import facts_of
from fdpass.serve.keeper.estate import Estate
from fdpass.serve.shared.slots import BUFFER, BUFFER_SIZE, ORIGIN, READ, WORDS, WROTE

FAMILIES = {"ipv4": (socket.AF_INET, "127.0.0.1"), "ipv6": (socket.AF_INET6, "::1"), "unix": (socket.AF_UNIX, "")}
HANG = 60


def pair(kind, *, inline=True):
    """A server's end and its client's; urgent bytes are in line, as the server's own listeners have it."""
    family, host = FAMILIES[kind]
    if family == socket.AF_UNIX:
        server, client = socket.socketpair()
    else:
        try:
            listener = socket.create_server((host, 0), family=family)
        except OSError as error:  # no IPv6 here
            pytest.skip(str(error))
        with listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, inline)
            client = socket.create_connection(listener.getsockname()[:2], HANG)
            server, _ = listener.accept()
    client.settimeout(HANG)
    return server, client


class Case:
    """A connection in custody, a worker's end of it, and its client."""

    def __init__(self, kind, *, inline=True):
        self.loop = Loop()
        self.custody = Custody(self.loop, Estate.private(4), "safe")
        self.worker, self.client = pair(kind, inline=inline)
        self.number = os.dup(self.worker.fileno())
        self.custody.keep(2, self.number)
        self.words = mapped(self.custody.memory)
        self.slot = memoryview(self.words).cast("q")[2 * WORDS : 3 * WORDS]
        with common(2 * BUFFER_SIZE, name="fdpass-test") as memory:
            self.buffers = mapped(memory)
        self.unix = kind == "unix"

    def read(self, most):
        """The worker reads."""
        data = self.worker.recv(most)
        start = (self.slot[BUFFER] - 1) * BUFFER_SIZE + self.read_so_far - self.slot[ORIGIN]
        if self.slot[BUFFER]:
            self.buffers[start : start + len(data)] = data
        self.slot[READ] += len(data)
        return data

    @property
    def read_so_far(self):
        return self.slot[READ]

    def write(self, data):
        self.worker.sendall(data)
        self.slot[WROTE] += len(data)

    def die(self):
        """The worker does, and with it its end."""
        self.worker.close()
        return self.custody.recover(2, self.buffers)

    def facts(self):
        return facts_of(self.slot, self.number)

    def go_until(self, condition):
        while not condition():
            self.loop.call_later(0.005, self.loop.stop)
            self.loop.run()

    def close(self):
        self.worker.close()
        self.client.close()
        self.custody.close()
        self.slot.release()
        self.words.close()
        self.buffers.close()
        self.loop.close()


def assert_closed(number):
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
