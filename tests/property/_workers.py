"""A worker of the custody tests: `HttpCustody` between a simulated kernel and `HttpProtocol`."""

import asyncio
import mmap
import select

from fdpass.serve.worker.custody import buffers
from fdpass.serve.worker.http.protocol import HttpProtocol
from fdpass.serve.worker.transport.http_custody import HttpCustody

from ._requests import SOCKETS, Engine, app

SIZE = 500  # of a receive buffer here


class Socket:
    """The worker's socket: what it reads and writes is what the kernel has done, even if it dies at that."""

    slot = 7
    returned = tls_by_proxy = shut = False
    client = None

    def __init__(self, worker, read):
        self.worker, self.world, self.read = worker, worker.world, read
        self.is_unix = self.world.unix

    def fileno(self):
        return SOCKETS[0].fileno()

    def setsockopt(self, *_):
        pass

    def getpeername(self):
        return "192.0.2.1", 1234

    getsockname = getpeername

    def shut_down(self, *_):
        pass

    shutdown = shut_down

    def close(self):
        self.worker.over = True

    def _come(self, most):
        world = self.world
        if self.worker.dead or not world.incoming:
            raise BlockingIOError
        count = min(most, world.random.randint(1, world.most), len(world.incoming))
        data, world.incoming = world.incoming[:count], world.incoming[count:]
        world.read += count
        return data

    def recv_into(self, view, _, __):
        data = self._come(len(view))
        view[: len(data)] = data
        self.worker.happened()
        return len(data)

    def recv(self, most, _):
        return self._come(most)

    def send(self, data, _):
        world = self.world
        count = min(world.room, len(data))
        if self.worker.dead or not count:
            raise BlockingIOError
        world.room -= count
        world.out += bytes(data[:count])
        self.worker.happened()
        return count


class Poller:
    """What the worker waits for."""

    def __init__(self, loop):
        self.loop, self.lingering = loop, set()
        self.events = 0

    def watch(self, number, events, call):
        self.events, self.call = events, call

    def unwatch(self, number):
        self.events = 0


class Words(list):
    """The slot of a worker: each store is a moment at which it may die."""

    worker = None

    def __setitem__(self, index, value):
        if not self.worker.dead:
            self.worker.world.slot[index] = value
            super().__setitem__(index, value)
            self.worker.happened()


class Worker:
    """One worker with the connection, dead or alive.

    Attributes:
        left: Its buffers at its death: what was called before it does not know that it is dead.
    """

    def __init__(self, world, read):
        self.world, self.dead, self.over, self.leaving = world, False, False, False
        self.memory = mmap.mmap(-1, SIZE * max(world.buffers, 1))
        self.buffers = buffers.Buffers(self.memory)
        self.buffers._most = world.buffers
        self.poller = Poller(asyncio.get_running_loop())
        self.engine = Engine(self.call)
        self.heads = self.engine.heads
        words, passed = Words(world.slot), Socket(self, read)
        words.worker = self
        scratch = memoryview(bytearray(SIZE))
        self.transport = HttpCustody(self.poller, passed, words, self.buffers, scratch)
        self.transport.set_write_buffer_limits(100, 20)
        self.protocol = HttpProtocol(self.engine, passed)
        self.transport.start(self.protocol)

    async def call(self, scope, receive, send):
        if not self.dead:
            self.world.begin(scope)
        await app(scope, receive, send)

    def happened(self):
        world = self.world
        if not self.dead and not self.over:
            world.steps += 1
            try:
                world.check(self.memory)
            except AssertionError as error:  # the exchange would log it as the application's
                world.failures.append(error)
            if world.steps in world.deaths:
                self.dead, self.left = True, bytes(self.memory)

    @property
    def moves(self):
        """What the loop would do now: each a function."""
        moves = []
        if self.poller.events & select.EPOLLIN and self.world.incoming:
            moves.append(lambda: self.poller.call(99, select.EPOLLIN))
        if self.poller.events & select.EPOLLOUT and self.world.room:
            moves.append(lambda: self.poller.call(99, select.EPOLLOUT))
        if self.heads:
            moves.append(lambda: self.heads.pop().flush())
        return moves
