"""The two parsers that workers run, fed and asked as uvicorn does it.

Attributes of each:
    called: How many requests the application was called for.
    ended: How many came to their end.
    over: Nothing more of the stream is a request: it was refused, or the connection ends, or is another
        protocol's.
    taken: Another protocol has it.
    ends: Where requests ended, as far as the pieces tell.
"""

import h11
import httptools

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


class Httptools(Parser):
    name = "httptools"

    def __init__(self):
        super().__init__()
        self._begun = 0
        self._last = False
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)

    @property
    def waits(self):
        """It has a part of a request."""
        return self._begun > self.ended

    def _feed(self, data):
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.over = self.taken = self._for_websocket  # else: what came behind it in these data is lost
        except httptools.HttpParserError:
            self.over = True

    def on_message_begin(self):
        self._begun += 1
        self._url, self._connection, self._upgrade = b"", b"", b""

    def on_url(self, url):
        self._url += url

    def on_header(self, name, value):
        name = name.lower()
        if name == b"connection":
            self._connection = value.lower()
        elif name == b"upgrade":
            self._upgrade = value.lower()

    @property
    def _for_websocket(self):
        tokens = [each.strip() for each in self._connection.split(b",")]
        return self._upgrade == b"websocket" and b"upgrade" in tokens

    def on_headers_complete(self):
        if not (self._parser.should_upgrade() and self._for_websocket):
            httptools.parse_url(self._url).path.decode("ascii")  # what fails here ends in 400
            self.called += 1
            self._last = self._parser.get_http_version() == "1.0" or not self._parser.should_keep_alive()

    def on_message_complete(self):
        if not self.over:
            self.ended += 1
            self.ends.append(self.fed)
            self.over = self._last


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
