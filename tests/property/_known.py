"""What `KnownHeaders` finds in bytes, against what a new parser and `RequestEnd` find in them."""

from fdpass.serve.worker.http.parser import Parser, ParserError

from ._feeding import Disagreement, borders


class Reading:
    """What a new parser finds in bytes.

    Attributes:
        requests: Of each request its method, version, target and headers; whether the client ends the connection
            after it; whether the client expects ``100 Continue``.
        ends: How many requests came to their end.
        bodies: What came of the body of each.
        over: The bytes are not all HTTP, or ask for a WebSocket.
    """

    def __init__(self, data):
        self.requests = []
        self.ends = 0
        self.bodies = []
        self.over = False
        self._parser = Parser(self, 64 * 1024)
        try:
            self._parser.feed(data)
        except ParserError:
            self.over = True

    def head_parsed(self, method, version, target, headers, *, keeps, expects):
        self.requests.append([method, version, target, headers, not keeps, expects])
        self.bodies.append(b"")

    def body_parsed(self, body):
        self.bodies[-1] += body

    def end_parsed(self, *, keeps):
        self.ends += 1
        self.requests[-1][4] |= not keeps

    def websocket_parsed(self, handshake):
        self.over = True
        return True

    @property
    def first(self):
        """The first request, as `KnownHeaders.find` has it, if it is plain: whole, of HTTP/1.1."""
        if not self.ends:
            return None
        method, version, target, headers, closes, expects = self.requests[0]
        return None if version != "1.1" or expects else (method, target, headers, closes, self.bodies[0])

    @property
    def only(self):
        """The same, if these bytes are this request and nothing else."""
        alone = len(self.requests) == 1 and not (self.over or self._parser.partial)
        return self.first if alone else None


def remember(known, data):
    """Let a parser take these bytes, and do as `HttpProtocol` does with the first request in them."""
    first = Reading(data).first
    if first is not None:
        *_, headers, closes, body = first
        known.add(data, headers, body, closes=closes)


def check(known, data):
    """Raise a `Disagreement` if these bytes are found, and are anything but the request that is found.

    Returns:
        Whether they are found.
    """
    found = known.find(data)
    if found is None:
        return False
    *found, forwarded = found
    found = tuple(found)
    assert forwarded is None
    due = Reading(data).only
    if found != due:
        raise Disagreement(f"found {found}, but for the parser it is {due}: {data}")
    if borders(data) != ([len(data)], False):
        raise Disagreement(f"found {found}, but for RequestEnd it ends elsewhere: {data}")
    found[2].append((b"x-of-this-request", b"alone"))
    if known.find(data)[:-1] == found:
        raise Disagreement("two requests have one list of headers")
    return True
