"""Three servers in this process: fdpass with custody, without, and uvicorn. What each makes of the same bytes."""

import contextlib
import os
import re
import socket
from dataclasses import dataclass, field
from types import SimpleNamespace
from unittest import mock

import uvicorn
from uvicorn.server import ServerState

from fdpass._memory import common, mapped
from fdpass.serve.dispatcher.custody import Custody
from fdpass.serve.dispatcher.recovery import Action
from fdpass.serve.keeper.estate import Estate
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.slots import BUFFER_SIZE
from fdpass.serve.worker.custody.buffers import Buffers
from fdpass.serve.worker.engines import Job, asgi
from fdpass.serve.worker.http.protocol import HttpProtocol
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.request_count import RequestCount

from .application import Application
from .client import ROOM, Client


class Fdpass:
    """The engine of a worker; and in custody the dispatcher's side of its connection, which outlives the engine's.

    Attributes:
        served: The connection.
        portions: What the parser was given, one after the other.
    """

    def __init__(self, loop, held, *, custody):
        self.loop = loop
        for module in ("exchange", "protocol"):  # the clock is the loop's
            held.enter_context(mock.patch(f"fdpass.serve.worker.http.{module}.monotonic", loop.time))
        self.app = Application()
        self.portions = []
        self.custody = slots = pages = self._buffers = None
        if custody:
            timers = {"call_later": loop.call_later, "watch": loop.add_reader, "unwatch": loop.remove_reader}
            self.custody = Custody(SimpleNamespace(**timers), Estate.private(1), "safe")
            with common(2 * BUFFER_SIZE, name="fdpass-test") as memory:
                self._buffers = Buffers(mapped(memory))
            slots = memoryview(mapped(self.custody.memory)).cast("q")
            pages = mapped(self.custody.pages)
            held.callback(self._release, slots, pages)
        setup = SimpleNamespace(config=Config(lifespan="off"), slots=slots, pages=pages, address=None)
        self._slots = slots
        self.engine = asgi.AsgiEngine(Job(self.app, RequestCount(), setup, buffers=self._buffers))
        loop.finish(self.engine.start())
        self.engine.portions = self.portions
        held.callback(lambda: loop.finish(self.engine.finish(0, retiring=False)))
        held.callback(lambda: self.engine.poller.close())

    def _release(self, slots, pages):
        for view in (*self._buffers.views, slots):
            view.release()
        self._buffers.memory.close()
        pages.close()
        self.custody.close()

    @property
    def connections(self):
        """The protocols of the engine's connections."""
        return [*self.engine.connections, *self.engine._websockets.connections]

    @property
    def tasks(self):
        """What runs the application."""
        running = [exchange.task for exchange in self.engine.exchanges if exchange.task is not None]
        return [*running, *self.engine._websockets.tasks]

    def take(self, server):
        """Serve this."""
        if self.custody is not None:
            self.custody.keep(0, server.dup().detach())
        self.served = PassedSocket(server.detach(), 0, lambda _: None)
        self.engine.take(self.served)

    def die(self):
        """The worker dies, and the dispatcher does what it does; returns what, or None if it was over already.

        What the engine does with the slot and the buffer afterwards never was.
        """
        if self.served.fileno() < 0:
            return None
        slot, buffers = bytes(self._slots), self._buffers.memory[:]
        self.served.returned = True  # closed by the kernel, it is not shut down
        readers = []
        for protocol in self.connections:
            transport = getattr(protocol, "wire", None) or protocol.transport
            readers.append(transport._reader)
            transport.abort()
        for lingering in list(self.engine.poller.lingering):
            lingering.close()
        self.loop.moving = bool
        self.loop.settle()
        assert self.served.fileno() < 0
        for reader in readers:
            reader.forget()  # what is returned keeps its buffer until the dispatcher has been told
        self._slots[:] = memoryview(slot).cast("q")
        self._buffers.memory[:] = buffers
        action, read = self.custody.recover(0, self._buffers.memory)
        if action in {Action.IDLE, Action.REPLAY}:
            self.served = PassedSocket(os.dup(self.custody.fd(0)), 0, lambda _: None)
            self.served.read = read
            self.engine.take(self.served)
        return action

    def over(self):
        """The exchange is: what is kept is let go."""
        if self.custody is not None:
            with contextlib.suppress(KeyError):  # a dead worker's was ended
                self.custody.end([0])


def _noting(data_received):
    def noting(protocol, data):
        protocol.engine.portions.append(data)
        data_received(protocol, data)

    return noting


class Uvicorn:
    """uvicorn's own protocol on the loop's own transport."""

    def __init__(self, loop):
        self.loop = loop
        self.app = Application()
        self.portions = []  # the loop's: what comes is given at once
        self._config = uvicorn.Config(
            self.app,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        self._config.load()
        self.state = ServerState()

    @property
    def connections(self):
        return self.state.connections

    @property
    def tasks(self):
        return self.state.tasks

    def take(self, server):
        """Serve this."""
        self.served = server
        server.setblocking(False)
        self.loop.finish(self.loop.connect_accepted_socket(self._protocol, server))

    def over(self):
        """Nothing is kept."""

    def _protocol(self):
        return self._config.http_protocol_class(
            config=self._config, server_state=self.state, app_state={}, _loop=self.loop
        )


@dataclass(frozen=True)
class Outcome:
    """What became of an exchange.

    Attributes:
        steps: After each piece, what came back since, without dates, and how the connection stood.
        seen: What the application saw.
        raised: What was raised into the loop.
        portions: What the parser was given, one after the other (fdpass).
    """

    steps: tuple
    seen: tuple
    raised: tuple
    portions: tuple = field(compare=False)

    @property
    def whole(self):
        """The same, whichever piece it came after."""
        return b"".join(out for out, _ in self.steps), self.steps[-1][1], self.seen, self.raised

    def __str__(self):
        steps = ", ".join(f"{_short(out)} {state}" for out, state in self.steps)
        return f"{steps}; seen {len(self.seen)}; raised {self.raised}"


def _short(out):
    """Of each answer its status, and how long it all is."""
    return f"{[int(code) for code in re.findall(rb'HTTP/1.1 ([0-9]{3}) ', out)]} of {len(out)} bytes,"


class Three:
    """The servers, by name, and exchanges with them.

    Args:
        loop: See `quiet`.
        held: An ExitStack: what they need is given back at its end.
    """

    def __init__(self, loop, held):
        self.loop = loop
        held.enter_context(mock.patch.object(HttpProtocol, "data_received", _noting(HttpProtocol.data_received)))
        self.servers = {
            "custody on": Fdpass(loop, held, custody=True),
            "custody off": Fdpass(loop, held, custody=False),
            "uvicorn": Uvicorn(loop),
        }
        self._listener = held.enter_context(socket.socket(proto=socket.IPPROTO_TCP))  # else no NODELAY
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()

    def outcomes(self, pieces):
        """What each says to these pieces."""
        return [self.exchange(name, pieces) for name in self.servers]

    def exchange(self, name, pieces, *, dies=False):
        """Send these, each once the one before was read, and then the end.

        Args:
            name: Of the server.
            pieces: What to send, or how long to be silent.
            dies: The worker does, after the first.
        """
        server = self.servers[name]
        client = Client(self.loop, self._listener.getsockname())
        server.take(self._listener.accept()[0])
        try:
            steps = []
            for number, piece in enumerate(pieces):
                self.loop.moving = lambda: client.is_moving(server.served)
                steps.append(client.say(piece))
                if dies and not number:
                    server.app.seen.append(server.die())
            self.loop.moving = lambda: client.is_moving(server.served)
            steps.append(client.end())
        finally:
            self.loop.moving = bool
            self._end(server, client)
        noted = []
        for notes in (server.app.seen, self.loop.raised, server.portions):
            noted.append(tuple(notes))
            notes.clear()
        return Outcome(tuple(steps), *noted)

    def _end(self, server, client):
        client.close()
        self.loop.settle()
        for protocol in list(server.connections):  # those that do not read, and so see no end
            (getattr(protocol, "wire", None) or protocol.transport).abort()
        for task in list(server.tasks):  # uvicorn tells only the last of pipelined requests of the end
            task.cancel()
        self.loop.settle()
        server.over()
        assert server.served.fileno() < 0, "the server has not closed its connection"
        assert not server.tasks, server.tasks
