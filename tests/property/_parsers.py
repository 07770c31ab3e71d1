"""The parser that workers run, and h11 for a second opinion, fed and asked as `HttpProtocol` does it.

Attributes of each:
    called: How many requests the application was called for.
    ended: How many came to their end.
    over: Nothing more of the stream is a request: it was refused, or the connection ends, or is another
        protocol's.
    taken: Another protocol has it.
    ends: Where requests ended, as far as the pieces tell.
"""

import h11

from fdpass.serve.worker.http.parser import Parser as HttpParser
from fdpass.serve.worker.http.parser import ParserError

ANSWER = (h11.Response(status_code=404, headers=[(b"content-length", b"0")]), h11.EndOfMessage())


class Parser:
    def __init__(self):
        self.called = self.ended = self.fed = 0
        self.over = self.taken = False
        self.ends = []

    def feed(self, data):
        self.fed += len(data)
        if not self.over:
            self._feed(data)

    def answer(self):
        """The application has answered the oldest request that it was called for."""


class Ours(Parser):
    """`fdpass.serve.worker.http.parser`, around httptools."""

    name = "httptools"

    def __init__(self):
        super().__init__()
        self._last = False
        self._parser = HttpParser(self, 64 * 1024)

    @property
    def waits(self):
        """It has a part of a request."""
        return self._parser.partial

    def _feed(self, data):
        try:
            self._parser.feed(data)
        except ParserError:
            self.over = True
        else:
            self.over |= self._parser.stopped

    def head_parsed(self, method, version, target, headers, *, keeps, expects):
        target.partition(b"?")[0].decode("ascii")  # what fails here ends in 400
        self.called += 1
        self._last = version == "1.0" or not keeps

    def body_parsed(self, body):
        pass

    def end_parsed(self, *, keeps):
        if not self.over:
            self.ended += 1
            self.ends.append(self.fed)
            self.over = self._last or not keeps

    def websocket_parsed(self, handshake):
        self.taken = True
        return True


class H11(Parser):
    name = "h11"

    def __init__(self):
        super().__init__()
        self._connection = h11.Connection(h11.SERVER)

    @property
    def waits(self):
        return self.called > self.ended or bool(self._connection.trailing_data[0])

    def _feed(self, data):
        self._connection.receive_data(data)
        self._events()

    def _events(self):
        connection = self._connection
        try:
            while not self.over:
                event = connection.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                if isinstance(event, h11.Request):
                    self._begin(event)
                elif isinstance(event, h11.EndOfMessage):
                    self.ended += 1
                    self.ends.append(self.fed)
                    if connection.our_state is h11.DONE:
                        connection.start_next_cycle()
        except h11.RemoteProtocolError:
            self.over = True

    def _begin(self, event):
        found = dict(event.headers)  # the last of each name, as uvicorn takes it
        tokens = [each.strip() for each in found.get(b"connection", b"").lower().split(b",")]
        self.taken = self.over = b"upgrade" in tokens and found.get(b"upgrade", b"").lower() == b"websocket"
        self.called += not self.taken

    def answer(self):
        connection = self._connection
        for event in ANSWER:
            connection.send(event)
        if connection.our_state is h11.MUST_CLOSE:
            self.over = True
        elif connection.our_state is connection.their_state is h11.DONE:
            connection.start_next_cycle()
            self._events()
