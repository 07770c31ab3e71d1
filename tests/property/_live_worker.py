"""A worker of the custody tests of open streams: the real engine between a simulated kernel and an application.

Each store into the slot, each act of the kernel and each step of the application is a moment at which it may die.
"""

import asyncio
import mmap
import select
from types import SimpleNamespace
from unittest import mock

from fdpass.serve.shared.config import Config
from fdpass.serve.shared.pages import PAGE_SIZE
from fdpass.serve.shared.slots import WORDS
from fdpass.serve.worker.custody import buffers
from fdpass.serve.worker.engines import Job, asgi
from fdpass.serve.worker.request_count import RequestCount

from ._workers import SIZE, Poller, Socket

SLOT = Socket.slot
CONFIG = Config(app="app:app", resume=("/live",), lifespan="off", keep_alive=600)


class LiveSocket(Socket):
    """The worker's socket, which no worker may use once it has given the connection up."""

    def __init__(self, worker, read):
        super().__init__(worker, read)
        self.on_returned = self.shut_down

    def _check(self, what):
        if self.worker.over and not self.worker.dead:
            self.world.failures.append(AssertionError(f"{what} on a connection that another worker has"))

    def _come(self, most):
        self._check("a read")
        return super()._come(most)

    def send(self, data, flags=0):
        self._check("a write")
        return super().send(data, flags)

    def reset(self):
        """See `PassedSocket.reset`."""
        if not self.worker.dead:
            self.shut = self.world.was_reset = True

    def shut_down(self, *_):
        pass

    def close(self):
        if not (self.worker.over or self.worker.dead):
            self.worker.over = True
            self.world.closed(self)
            self.on_returned()


class Words:
    """The slot of a worker."""

    def __init__(self, worker):
        self.worker, self.words = worker, worker.world.words
        self.own = None  # what a dead worker sees

    def __getitem__(self, index):
        if self.worker.dead and self.own is None:
            self.own = memoryview(bytearray(self.words)).cast("q")
        return (self.words if self.own is None else self.own)[index]

    def __setitem__(self, index, value):
        worker = self.worker
        if worker.dead:
            return
        if worker.over:
            worker.world.failures.append(
                AssertionError(f"a store into word {index} of a connection that has gone")
            )
            return
        self.words[index] = value
        worker.happened()


class StateStruct:
    """In the place of the `struct.Struct` by which a state is stored: that is one step, too."""

    def __init__(self, real):
        self.real = real

    def pack_into(self, words, place, *values):
        data = memoryview(self.real.pack(*values)).cast("q")
        words[place // 8 : place // 8 + len(data)] = data


class Slots:
    """All slots, of which there is one."""

    def __init__(self, words):
        self.words = words

    def __getitem__(self, index):
        return self.words if isinstance(index, slice) else self.words[index % WORDS]


class LiveWorker:
    """One worker with the connection, dead or alive.

    Attributes:
        left, page: Its buffers and the stream's page at its death.
        over: It has closed its socket.
        dead: It was killed.
    """

    def __init__(self, world):
        self.world, self.dead, self.over, self.leaving = world, False, False, None
        self.memory = mmap.mmap(-1, SIZE * max(world.buffers, 1))
        self.buffers = buffers.Buffers(self.memory)
        self.buffers._most = world.buffers
        self.left = self.page = b""

    async def start(self, read):
        """Start its engine, and give it the connection."""
        loop = asyncio.get_running_loop()
        pages = self.world.pages
        setup = SimpleNamespace(config=CONFIG, slots=Slots(Words(self)), pages=pages, address=("192.0.2.2", 80))
        self.poller = Poller(loop)
        with mock.patch.object(asgi, "Poller", return_value=self.poller):
            self.engine = asgi.AsgiEngine(Job(self.app, RequestCount(), setup, buffers=self.buffers))
            await self.engine.start()
        self.passed = LiveSocket(self, read)
        self.engine.take(self.passed)

    async def app(self, scope, receive, send):
        await self.world.client.app(self, scope, receive, send)

    def act(self, function):
        """A step of the application."""
        if not self.dead:
            function()
            self.happened()

    def happened(self):
        world = self.world
        if not self.dead and not self.over:
            world.steps += 1
            try:
                world.check(self.memory)
            except AssertionError as error:  # the protocol would log it as the application's
                world.failures.append(error)
            if world.steps in world.deaths:
                self.die()

    def die(self):
        """From now on nothing that it does happens."""
        self.dead, self.left = True, bytes(self.memory)
        self.page = self.world.pages[SLOT * PAGE_SIZE :]

    def leave(self):
        """Retire."""
        if self.leaving is None:
            self.leaving = asyncio.create_task(self.engine.finish(self.world.patience, retiring=True))

    @property
    def moves(self):
        """What the loop would do now: each a function."""
        moves = []
        if self.poller.events & select.EPOLLIN and self.world.incoming:
            moves.append(lambda: self.poller.call(self.passed.fileno(), select.EPOLLIN))
        if self.poller.events & select.EPOLLOUT and self.world.room:
            moves.append(lambda: self.poller.call(self.passed.fileno(), select.EPOLLOUT))
        return moves
