"""Clients that send requests to ``kills_app.py``, and the right answers."""

import itertools
import zlib

from ._kill_clients import LINGER_SECONDS, URGENT, Exchange, begin

LENGTHS = {"large": 200_000, "huge": 5_000_000}
STREAM_PARTS = 12
BODIES = (0, 10, 3000, 50_000, 61_000, 150_000)
PLAIN_PATHS = {"small": 8, "late": 3, "large": 2, "stream": 2, "204": 1}


class Http:
    """Clients that send requests."""

    kinds = ("requests", "requests", "pipelined", "large", "expect", "halfclosed", "reset", "slow")
    kinds += ("urgent", "early", "fork", "bare", "behind", "last", "header", "stream", "blank", "lingering")

    def __init__(self, rng, token):
        self.rng = rng
        self.token = token
        self.count = itertools.count()

    def secret(self, client):
        """A victim: an unsafe request with a body, answered."""
        begin(self.rng, client, halves=False)
        size = self.rng.choice((30, 3000, 55_000, 150_000))
        self._say(client, self.request(client, "POST", "small", size, chunked=False), whole=True)
        self.answered(client)

    def again(self, client):
        """The victim once more: its connection has to have gone on."""
        self._say(client, self.request(client, self.rng.choice(("GET", "POST")), "small", 10), whole=True)
        self.answered(client)

    def act(self, client, kind):
        rng = self.rng
        getattr(self, f"_{kind}", self._requests)(client)
        if kind == "halfclosed":
            client.steps.append((client.number, "shut", None))
            client.closes = True
        elif kind == "reset":
            client.resets = True
            client.steps = client.steps[: rng.randint(2, len(client.steps))]
            client.steps.append((client.number, "reset", None))

    def answered(self, client):
        client.steps.append((client.number, "answer", len(client.exchanges)))

    def request(
        self, client, method=None, path=None, size=None, *, chunked=None, end="\r\n", version="1.1", fields=()
    ):
        rng = self.rng
        method = method or rng.choice(("GET", "GET", "POST", "POST", "PUT", "HEAD"))
        path = path or rng.choices(list(PLAIN_PATHS), list(PLAIN_PATHS.values()))[0]
        token = f"{self.token}.{client.number}.{next(self.count)}."
        size = 0 if method in {"GET", "HEAD"} else rng.choice(BODIES) if size is None else size
        body = ((token + "secret ") * size)[:size].encode()
        chunked = rng.random() < 0.3 if chunked is None else chunked
        fields = [*fields, "host: test"]
        data = body
        if body and chunked:
            fields.append("transfer-encoding: chunked")
            data = b"".join(_chunks(rng, body))
        elif method in {"POST", "PUT"}:
            fields.append(f"content-length: {size}")
        who = "" if client.address == "-" else "&who=1"
        head = end.join([f"{method} /{path}?token={token}{who} HTTP/{version}", *fields, "", ""]).encode()
        answer, status = _answer(client, token, method, path, body)
        return Exchange(
            token, head + data, method, answer, status, path in {"small", "late", "204"}, head=len(head)
        )

    def _say(self, client, exchange, *, whole=False):
        client.exchanges.append(exchange)
        rng = self.rng
        count = 1 if whole else rng.choice((1, 1, 2, 3))
        cuts = sorted({0, len(exchange.data), *(rng.randrange(1, len(exchange.data)) for _ in range(count - 1))})
        for start, stop in itertools.pairwise(cuts):
            client.steps.append((client.number, "send", exchange.data[start:stop]))

    def _requests(self, client):
        for _ in range(self.rng.randint(1, 3)):
            self._say(client, self.request(client))
            self.answered(client)

    def _pipelined(self, client):
        for _ in range(self.rng.randint(2, 5)):
            self._say(client, self.request(client, size=self.rng.choice((0, 10, 3000))))

    def _behind(self, client):
        """A small request right behind a large one."""
        self._say(
            client, self.request(client, "POST", "late", self.rng.choice((61_400, 62_000, 150_000))), whole=True
        )
        self._say(client, self.request(client, "GET", "small"), whole=True)

    def _large(self, client):
        self._say(
            client, self.request(client, self.rng.choice(("POST", "PUT")), None, self.rng.choice(BODIES[3:]))
        )

    def _expect(self, client):
        size = self.rng.choice(BODIES[1:])
        fields = ("expect: 100-continue",)
        exchange = self.request(client, self.rng.choice(("POST", "PUT")), "small", size, fields=fields)
        client.exchanges.append(exchange)
        client.steps.append((client.number, "send", exchange.data[: exchange.head]))
        client.steps.append((client.number, "interim", None))
        client.steps.append((client.number, "send", exchange.data[exchange.head :]))
        self.answered(client)

    def _slow(self, client):
        client.slow = True
        self._say(client, self.request(client, "GET", self.rng.choice(("large", "huge"))))

    def _stream(self, client):
        self._say(client, self.request(client, self.rng.choice(("GET", "POST")), "stream"))

    def _urgent(self, client):
        """Bytes of a request and urgent ones: what they are together depends on time."""
        client.hostile = True
        exchange = self.request(client, "POST", "small", 0)  # as the victims' begin
        exchange.data = exchange.data[:-4] + b"\r\nx-echo: " + b"a" * 80 + b"\r\n\r\n"
        cut = self.rng.choice((1, 4, len(exchange.data) - 4, len(exchange.data) - 4))
        client.exchanges.append(exchange)
        client.steps.append((client.number, "send", exchange.data[:cut]))
        client.steps.append((client.number, "urgent", (self.rng.choice(URGENT), self.rng.random() < 0.7)))
        client.steps.append((client.number, "linger", LINGER_SECONDS))
        if self.rng.random() < 0.8:
            client.steps.append((client.number, "send", exchange.data[cut:]))
            client.steps.append((client.number, "linger", LINGER_SECONDS / 2))

    def _early(self, client):
        """A response that does not wait for the request's end."""
        exchange = self.request(client, "POST", "unread", self.rng.choice(BODIES[2:]))
        exchange.plain, exchange.opaque = False, True
        client.closes = True
        self._say(client, exchange)

    def _lingering(self, client):
        """As `_early`; and the connection ends with the response, while the client still sends."""
        fields = ("connection: close",)
        exchange = self.request(client, "POST", "unread", self.rng.choice(BODIES[2:]), fields=fields)
        exchange.plain, exchange.opaque = False, True
        client.closes = True
        self._say(client, exchange)

    def _blank(self, client):
        """Empty lines before requests, and behind them."""
        for _ in range(self.rng.randint(1, 4)):
            exchange = self.request(client, size=self.rng.choice((0, 10, 3000)))
            exchange.data = b"\r\n" * self.rng.choice((0, 1, 2, 5)) + exchange.data
            exchange.data += b"\r\n" * self.rng.choice((0, 0, 1, 3))
            self._say(client, exchange)
            if self.rng.random() < 0.7:
                self.answered(client)

    def _fork(self, client):
        self._say(client, self.request(client, self.rng.choice(("GET", "POST")), "fork", 10))

    def _bare(self, client):
        """A head with ends of lines whose meaning is the parser's; and what is long enough to be cut."""
        exchange = self.request(client, "GET", "small", end="\n")
        exchange.opaque, exchange.plain, exchange.status = True, False, 0
        self._say(client, exchange, whole=True)
        self.answered(client)
        end = self.rng.choice(("\n", "\n", "\r\n"))
        exchange = self.request(client, "GET", self.rng.choice(("stream", "stream", "large")), end=end)
        exchange.opaque = True
        self._say(client, exchange)
        client.closes = True

    def _last(self, client):
        """A request that ends its connection."""
        version, fields = self.rng.choice((("1.0", ()), ("1.1", ("connection: close",))))
        self._say(client, self.request(client, chunked=False, version=version, fields=fields))
        client.closes = True


def _answer(client, token, method, path, body):
    """Body and status of the answer."""
    seen = b"" if path == "unread" else body
    told = f"{method} {token} {len(seen)} {zlib.crc32(seen)} {client.address}\n".encode()
    status = {"unread": 413, "204": 204}.get(path, 200)
    if method == "HEAD" or path == "204":
        return b"", status
    if path in LENGTHS:
        return (token.encode() * LENGTHS[path])[: LENGTHS[path]], status
    return told * (STREAM_PARTS if path in {"stream", "fork"} else 1), status


def _chunks(rng, body):
    start = 0
    while start < len(body):
        size = max(rng.choice((1, 100, 4000, 70_000)), len(body) // 20)
        piece = body[start : start + size]
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
        start += size
    yield b"0\r\n\r\n"
