"""`Live`: a WebSocket in custody in this process, and workers that have it one after the other."""

import contextlib
import os
import re
import socket
import zlib
from types import SimpleNamespace

from fdpass._memory import common, mapped
from fdpass.serve.dispatcher.custody import Custody
from fdpass.serve.dispatcher.recovery import Action
from fdpass.serve.keeper.estate import Estate
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.slots import BUFFER_SIZE
from fdpass.serve.worker.custody.buffers import Buffers
from fdpass.serve.worker.engines import Job, asgi
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.request_count import RequestCount

from .client import ROOM, Client
from .frames import CLOSE, PONG, client_frame, server_frames

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{more}\r\n"
)
_EXTENSIONS = re.compile(rb"\r\nsec-websocket-extensions: ([^\r]*)", re.IGNORECASE)
_MOST = 256 * 1024  # bytes that are sent at once


class Live:
    """The dispatcher's side of one connection, and the engine of the worker that has it.

    Args:
        loop: See `quiet`.
        app: The application.
        held: An ExitStack: what is needed is given back at its end.
    """

    def __init__(self, loop, app, held):
        self.loop, self.app, self.held = loop, app, held
        timers = {"call_later": loop.call_later, "watch": loop.add_reader, "unwatch": loop.remove_reader}
        self.custody = Custody(SimpleNamespace(**timers), Estate.private(1), "safe")
        self._slots = memoryview(mapped(self.custody.memory)).cast("q")
        self._pages = mapped(self.custody.pages)
        with common(2 * BUFFER_SIZE, name="fdpass-test") as memory:
            self._memory = mapped(memory)
        held.callback(self._release)
        self._start()
        self._listener = held.enter_context(socket.socket(proto=socket.IPPROTO_TCP))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()

    def _start(self):
        """A worker."""
        self._buffers = Buffers(self._memory)
        setup = SimpleNamespace(
            config=Config(lifespan="off", resume=("/live",)), slots=self._slots, pages=self._pages, address=None
        )
        self.engine = asgi.AsgiEngine(Job(self.app, RequestCount(), setup, buffers=self._buffers))
        self.loop.finish(self.engine.start())
        self.fresh = True

    def _end(self):
        self.loop.finish(self.engine.finish(0, retiring=False))
        self.engine.poller.close()
        for view in self._buffers.views:
            view.release()

    def _release(self):
        self._end()
        self._slots.release()
        self._memory.close()
        self._pages.close()
        self.custody.close()

    def _take(self, read):
        self.served = PassedSocket(os.dup(self.custody.fd(0)), 0, lambda _: None)
        self.served.read = read
        self.engine.take(self.served)
        self.loop.moving = lambda: self.client.is_moving(self.served)
        self.loop.settle()

    def retire(self):
        """The worker retires, and another one goes on with the connection; False if it kept the connection."""
        if self.served.fileno() < 0:
            return False
        self.loop.moving = bool  # all has arrived; and the connection stays open without this socket
        self.loop.finish(self.engine.finish(5, retiring=True))
        returned, read = self.served.returned, bytes(self.served.read)
        assert self.served.fileno() < 0
        self.engine.poller.close()
        for view in self._buffers.views:
            view.release()
        self._start()
        if returned:
            self.custody.take_back(0, read)
            self._take(read)
        return returned

    def die(self):
        """The worker dies; what the dispatcher does then, or None if the connection has ended."""
        if self.served.fileno() < 0:
            return None
        slot, buffers, pages = bytes(self._slots), self._memory[:], self._pages[:]
        self.served.returned = True  # closed by the kernel, it is not shut down
        for protocol in list(self.engine._websockets.connections):
            protocol.transport.abort()
        for lingering in list(self.engine.poller.lingering):
            lingering.close()
        self.loop.moving = bool
        self.loop.settle()
        assert self.served.fileno() < 0
        self._end()
        self._slots[:] = memoryview(slot).cast("q")
        self._memory[:] = buffers
        self._pages[:] = pages
        action, read = self.custody.recover(0, self._memory)
        self._memory[:] = bytes(len(buffers))
        self._start()
        if action in {Action.IDLE, Action.REPLAY}:
            self._take(read)
        return action

    # A case

    def play(self, path, case, happens="", most=0):
        """Play a case. Returns a `Transcript`.

        Args:
            path: Where.
            case: The case.
            happens: Before some of its pieces: retire, or die.
            most: So often.
        """
        client = self.client = Client(self.loop, self._listener.getsockname())
        accepted = self._listener.accept()[0]
        self.custody.keep(0, accepted.detach())
        self._take(b"")
        try:
            more = f"Sec-WebSocket-Extensions: {case.offer}\r\n" if case.offer else ""
            out, state = client.say(HANDSHAKE.format(path=path, more=more).encode())
            head, _, out = out.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101"), head
            codec = _Codec(head)
            pieces = [*codec.frames(case.deflated), *case.sent]
            for number, piece in enumerate(pieces):
                if happens and not number % -(-len(pieces) // most):
                    getattr(self, happens)()
                for place in range(0, len(piece), _MOST):
                    more, state = client.say(piece[place : place + _MOST])
                    out += more
            last, state = client.end()
            return Transcript(codec, out + last, state)
        finally:
            client.close()
            self.loop.moving = bool
            self.loop.settle()
            for protocol in list(self.engine._websockets.connections):
                protocol.transport.abort()
            self.loop.settle()
            with contextlib.suppress(KeyError):
                self.custody.end([0])


class _Codec:
    """permessage-deflate of a client (RFC 7692), as it was agreed."""

    def __init__(self, head):
        agreed = _EXTENSIONS.search(head)
        self.agreed = agreed[1].decode() if agreed else ""
        self._keeps = "client_no_context_takeover" not in self.agreed
        self._theirs = "server_no_context_takeover" not in self.agreed
        self._bits = int((re.search(r"client_max_window_bits=(\d+)", self.agreed) or [0, 15])[1])
        self._deflate = self._inflate = None

    def frames(self, messages):
        """Messages as frames: compressed, if that was agreed."""
        for opcode, data in messages:
            if not self.agreed:
                yield client_frame(opcode, data)
                continue
            if self._deflate is None or not self._keeps:
                self._deflate = zlib.compressobj(wbits=-max(self._bits, 9))
            body = self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
            yield client_frame(opcode, body.removesuffix(b"\0\0\xff\xff"), reserved=4)

    def inflate(self, frame):
        if not frame.first & 0x40:
            return frame.payload
        if self._inflate is None or not self._theirs:
            self._inflate = zlib.decompressobj(wbits=-15)
        return self._inflate.decompress(frame.payload + b"\0\0\xff\xff")


class Transcript:
    """What the server sent.

    Attributes:
        messages, pongs, code: See `websockets.Expected`; the code is None if there was no close frame.
        state: How the connection stood at the end.
    """

    def __init__(self, codec, out, state):
        frames, left = server_frames(out)
        self.state, self.left, self.agreed = state, left, codec.agreed
        self.messages = tuple((each.opcode, codec.inflate(each)) for each in frames if each.opcode < CLOSE)
        self.pongs = tuple(each.payload for each in frames if each.opcode == PONG)
        codes = [each.code for each in frames if each.opcode == CLOSE]
        self.code = codes[0] if codes else None
        self.closes = len(codes)

    def passes(self, expected):
        """Whether the server has done what it must."""
        if self.left or self.closes > 1 or self.state == "kept":
            return False
        whole = 1000 in expected.codes or 1005 in expected.codes
        if whole:
            return (self.messages, self.pongs) == (
                expected.messages,
                expected.pongs,
            ) and self.code in expected.codes
        few = expected.messages[: len(self.messages)] == self.messages
        return few and expected.pongs[: len(self.pongs)] == self.pongs and self.code in {None, *expected.codes}

    def without_repeated_pongs(self):
        """The same: a ping between fragments is answered again, if the message is read again."""
        self.pongs = tuple(dict.fromkeys(self.pongs))
        return self

    @property
    def seen(self):
        """All of it, to compare."""
        return self.messages, self.pongs, self.code, self.closes, self.left, self.state == "kept"

    def __str__(self):
        sizes = [len(data) for _, data in self.messages]
        return f"messages of {sizes}, pongs {self.pongs}, close {self.code}, {self.left} bytes left, {self.state}"
