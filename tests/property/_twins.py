"""Two `HttpProtocol` of the same connection: one knows the headers of requests that came before, one does not."""

import types

from fdpass.serve.worker.http.protocol import HttpProtocol
from fdpass.serve.worker.http.request import KnownHeaders
from fdpass.serve.worker.request_count import RequestCount

from ._requests import SOCKETS


class Knowing(KnownHeaders):
    """Counts how often headers were known."""

    def __init__(self):
        super().__init__()
        self.found = 0

    def find(self, data):
        found = super().find(data)
        self.found += found is not None
        return found


class Ignorant(KnownHeaders):
    """Finds nothing: all requests go to the parser."""

    def find(self, data):
        return None


class Passed:
    """The socket. Nothing is unread in it."""

    slot = 0
    tls_by_proxy = is_unix = False
    fileno = SOCKETS[0].fileno

    def getpeername(self):
        return "192.0.2.1", 1234


class Wire:
    """A transport that notes what it is told."""

    def __init__(self, told):
        self.extensions = {}
        self._told = told
        self.passed = Passed()
        self.over = False

    quiet = True

    def linger(self):
        self._note("linger")

    def _note(self, *what):
        self._told.append(what)

    def called(self, scope):
        self._note("called", *(scope[name] for name in ("method", "http_version", "raw_path", "path")))
        self._note(scope["query_string"], *scope["headers"])

    def hand_over(self, websockets, protocol, handshake):
        return False

    def write(self, data):
        self._note("write", data)

    def respond(self, data, last):
        self._note("respond", data, last)
        self.over |= last

    def cut(self, *, reset):
        self._note("cut", reset)
        self.over = True

    def close(self):
        self._note("close")
        self.over = True

    def pause_reading(self):
        self._note("pause")

    read_no_more = resume_reading = pause_reading

    def get_extra_info(self, name):
        return None


class Idle(set):
    """In the place of an `IdleTimer`."""

    def add_at(self, thing, now):
        self.add(thing)


class Engine:
    """An engine whose application echoes bodies; if the query is ``late``, after the next piece has come."""

    date, dateless, root_path, forwarding = b"date: now\r\n", b"", "", None
    websocket = head_timer = None
    head_max, body_max = 64 * 1024, 0
    connections = exchanges = property(lambda _: set())
    idle = property(lambda _: Idle())

    def __init__(self, known):
        self.count = RequestCount()
        self.state = {}
        self.known = known
        self.late = []

    def server_of(self, passed):
        return "192.0.2.2", 80

    def flush_soon(self, exchange):
        pass

    def start_exchange(self, exchange):
        exchange._changed = Change()
        self.go_on([exchange.run(app)])

    def go_on(self, calls):
        for call in calls:
            try:
                call.send(None)
            except StopIteration:
                continue
            self.late.append(call)


class Change:
    """An event that is set whenever another piece has come."""

    def set(self):
        pass

    def clear(self):
        pass

    @types.coroutine
    def wait(self):
        yield


async def app(scope, receive, send):
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["query_string"] == b"late":
        await Change().wait()
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


class Twins:
    """Engines that get the same pieces: one finds known headers, one does not."""

    def __init__(self):
        self.known = Knowing()
        self._engines = [Engine(self.known), Engine(Ignorant())]

    def told(self, pieces):
        """What each told its transport, for these pieces on a connection of their own."""
        return [self._told(engine, pieces) for engine in self._engines]

    def _told(self, engine, pieces):
        told = []
        wire = Wire(told)
        protocol = HttpProtocol(engine, wire.passed)
        protocol.connection_made(wire)
        for piece in pieces:
            if wire.over:
                break
            late, engine.late = engine.late, []
            protocol.data_received(piece)
            engine.go_on(late)
            told.append("read")
        protocol.connection_lost(None)
        while engine.late:
            late, engine.late = engine.late, []
            engine.go_on(late)
        return told
