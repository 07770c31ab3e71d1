"""A worker of the custody tests: `Kept` between a simulated transport and uvicorn's protocol."""

import asyncio
import socket
from types import SimpleNamespace

from uvicorn.server import ServerState

from fdpass.serve import buffers, kept
from fdpass.serve.tally import Tally

from ._requests import app

SIZE = 500  # of a receive buffer here


class Transport:
    """As the loop's, with a socket that takes as much as the kernel has room for."""

    def __init__(self, worker, *, queues):
        self.worker, self.queues = worker, queues
        self.waiting = b""
        self.reading, self.closing, self.lost, self.paused = True, False, False, False
        self.protocol = worker.kept

    def write(self, data):
        if not self.lost:
            self.waiting += data
            if not self.queues:
                self.push()
            if len(self.waiting) > 100 and not self.paused:
                self.paused = True
                self.protocol.pause_writing()

    def push(self):
        world = self.worker.world
        if not self.worker.dead and (room := min(world.room, len(self.waiting))):
            world.room -= room
            world.out += self.waiting[:room]
            self.waiting = self.waiting[room:]
            self.worker.happened()
        if self.paused and len(self.waiting) <= 20:
            self.paused = False
            self.protocol.resume_writing()
        if self.closing and not self.waiting:
            self._lose()

    def _lose(self):
        if not self.lost:
            self.lost = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self):
        self.worker.over = True
        self.protocol.connection_lost(None)

    def close(self):
        self.closing, self.reading = True, False
        if not self.waiting:
            self._lose()

    def abort(self):
        self.waiting = b""
        self.close()

    def get_write_buffer_size(self):
        return len(self.waiting)

    def is_closing(self):
        return self.closing

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = not self.closing

    def set_protocol(self, protocol):
        self.protocol = protocol

    def get_extra_info(self, name, default=None):
        return default


class Words(list):
    """The slot of a worker: each store is a moment at which it may die."""

    worker = None

    def __setitem__(self, index, value):
        if not self.worker.dead:
            self.worker.world.slot[index] = value
            super().__setitem__(index, value)
            self.worker.happened()


class Worker:
    """One worker with the connection, dead or alive."""

    def __init__(self, world, read):
        self.world, self.dead, self.over = world, False, False
        self.memory = bytearray(SIZE * world.buffers)
        self.buffers = buffers.Buffers(self.memory)
        self.scratch = memoryview(bytearray(SIZE))
        self.app, self.keep_alive, self.loop = self.call, 5.0, asyncio.get_running_loop()
        self.tally, self.heads, self.warm, self.undrained_ones = Tally(), [], [], []
        self.flush_soon = self.sweep_soon = lambda: None
        self.ended, self.undrained = lambda _: None, self.undrained_ones.append
        words = Words(world.slot)
        words.worker = self
        passed = SimpleNamespace(read=read, slot=7, returned=False, client=None)
        passed.family = socket.AF_UNIX if world.unix else socket.AF_INET
        passed.shut_down = lambda: None
        self.kept = kept.Kept(self, passed, words)
        self.transport = Transport(self, queues=world.queues)
        self.state = ServerState()
        self.kept.wrap(world.protocol(self.kept, self.state))
        self.kept.connection_made(self.transport)

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
            except AssertionError as error:  # uvicorn would log it as the application's
                world.failures.append(error)
            self.dead = world.steps in world.deaths

    def read(self, most):
        """The kernel has bytes."""
        world, transport = self.world, self.transport
        if transport.protocol is not self.kept:
            data, world.incoming = world.incoming[:most], world.incoming[most:]
            world.read += len(data)
            transport.protocol.data_received(data)
            return
        view = self.kept.get_buffer(-1)
        if self.dead:
            return
        count = min(len(view), most, len(world.incoming))
        view[:count] = world.incoming[:count]
        world.incoming = world.incoming[count:]
        world.read += count
        self.happened()
        self.kept.buffer_updated(count)
