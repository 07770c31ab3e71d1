"""Clients that send requests to ``kills_app.py``, and what they have to be answered."""

import itertools
import zlib

from ._kill_clients import LINGER_SECONDS, URGENT, Said, begin

LENGTHS = {"large": 200_000, "huge": 5_000_000}
STREAM_PARTS = 12
BODIES = (0, 10, 3000, 50_000, 61_000, 150_000)
PLAIN_PATHS = {"small": 8, "late": 3, "large": 2, "stream": 2, "204": 1}


class Http:
    """Clients that send requests."""

    kinds = ("requests", "requests", "pipelined", "large", "expect", "halfclosed", "reset", "slow")
    kinds += ("urgent", "early", "fork", "bare", "behind", "last", "header", "stream")

    def __init__(self, rng, token):
        self.rng = rng
        self.token = token
        self.count = itertools.count()

    def secret(self, actor):
        """A victim: an unsafe request with a body, answered."""
        begin(self.rng, actor, halves=False)
        size = self.rng.choice((30, 3000, 55_000, 150_000))
        self._say(actor, self.request(actor, "POST", "small", size, chunked=False), whole=True)
        self.answered(actor)

    def again(self, actor):
        """The victim once more: its connection has to have gone on."""
        self._say(actor, self.request(actor, self.rng.choice(("GET", "POST")), "small", 10), whole=True)
        self.answered(actor)

    def act(self, actor, kind):
        rng = self.rng
        getattr(self, f"_{kind}", self._requests)(actor)
        if kind == "halfclosed":
            actor.steps.append((actor.number, "shut", None))
            actor.closes = True
        elif kind == "reset":
            actor.resets = True
            actor.steps = actor.steps[: rng.randint(2, len(actor.steps))]
            actor.steps.append((actor.number, "reset", None))

    def answered(self, actor):
        actor.steps.append((actor.number, "answer", len(actor.said)))

    def request(
        self, actor, method=None, path=None, size=None, *, chunked=None, end="\r\n", version="1.1", fields=()
    ):
        rng = self.rng
        method = method or rng.choice(("GET", "GET", "POST", "POST", "PUT", "HEAD"))
        path = path or rng.choices(list(PLAIN_PATHS), list(PLAIN_PATHS.values()))[0]
        token = f"{self.token}.{actor.number}.{next(self.count)}."
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
        who = "" if actor.client == "-" else "&who=1"
        head = end.join([f"{method} /{path}?token={token}{who} HTTP/{version}", *fields, "", ""]).encode()
        answer, status = _answer(actor, token, method, path, body)
        return Said(token, head + data, method, answer, status, path in {"small", "late", "204"}, head=len(head))

    def _say(self, actor, said, *, whole=False):
        actor.said.append(said)
        rng = self.rng
        count = 1 if whole else rng.choice((1, 1, 2, 3))
        cuts = sorted({0, len(said.data), *(rng.randrange(1, len(said.data)) for _ in range(count - 1))})
        for start, stop in itertools.pairwise(cuts):
            actor.steps.append((actor.number, "send", said.data[start:stop]))

    def _requests(self, actor):
        for _ in range(self.rng.randint(1, 3)):
            self._say(actor, self.request(actor))
            self.answered(actor)

    def _pipelined(self, actor):
        for _ in range(self.rng.randint(2, 5)):
            self._say(actor, self.request(actor, size=self.rng.choice((0, 10, 3000))))

    def _behind(self, actor):
        """A small request right behind a large one."""
        self._say(
            actor, self.request(actor, "POST", "late", self.rng.choice((61_400, 62_000, 150_000))), whole=True
        )
        self._say(actor, self.request(actor, "GET", "small"), whole=True)

    def _large(self, actor):
        self._say(actor, self.request(actor, self.rng.choice(("POST", "PUT")), None, self.rng.choice(BODIES[3:])))

    def _expect(self, actor):
        size = self.rng.choice(BODIES[1:])
        fields = ("expect: 100-continue",)
        said = self.request(actor, self.rng.choice(("POST", "PUT")), "small", size, fields=fields)
        actor.said.append(said)
        actor.steps.append((actor.number, "send", said.data[: said.head]))
        actor.steps.append((actor.number, "interim", None))
        actor.steps.append((actor.number, "send", said.data[said.head :]))
        self.answered(actor)

    def _slow(self, actor):
        actor.slow = True
        self._say(actor, self.request(actor, "GET", self.rng.choice(("large", "huge"))))

    def _stream(self, actor):
        self._say(actor, self.request(actor, self.rng.choice(("GET", "POST")), "stream"))

    def _urgent(self, actor):
        """Bytes of a request and urgent ones: what they are together depends on time."""
        actor.hostile = True
        said = self.request(actor, "POST", "small", 0)  # as the victims' begin
        said.data = said.data[:-4] + b"\r\nx-echo: " + b"a" * 80 + b"\r\n\r\n"
        cut = self.rng.choice((1, 4, len(said.data) - 4, len(said.data) - 4))
        actor.said.append(said)
        actor.steps.append((actor.number, "send", said.data[:cut]))
        actor.steps.append((actor.number, "urgent", (self.rng.choice(URGENT), self.rng.random() < 0.7)))
        actor.steps.append((actor.number, "linger", LINGER_SECONDS))
        if self.rng.random() < 0.8:
            actor.steps.append((actor.number, "send", said.data[cut:]))
            actor.steps.append((actor.number, "linger", LINGER_SECONDS / 2))

    def _early(self, actor):
        """A response that does not wait for the request's end."""
        said = self.request(actor, "POST", "unread", self.rng.choice(BODIES[2:]))
        said.plain, said.opaque = False, True
        actor.closes = True
        self._say(actor, said)

    def _fork(self, actor):
        self._say(actor, self.request(actor, self.rng.choice(("GET", "POST")), "fork", 10))

    def _bare(self, actor):
        """A head with ends of lines whose meaning is the parser's; and what is long enough to be cut."""
        said = self.request(actor, "GET", "small", end="\n")
        said.opaque, said.plain, said.status = True, False, 0
        self._say(actor, said, whole=True)
        self.answered(actor)
        end = self.rng.choice(("\n", "\n", "\r\n"))
        said = self.request(actor, "GET", self.rng.choice(("stream", "stream", "large")), end=end)
        said.opaque = True
        self._say(actor, said)
        actor.closes = True

    def _last(self, actor):
        """A request that ends its connection."""
        version, fields = self.rng.choice((("1.0", ()), ("1.1", ("connection: close",))))
        self._say(actor, self.request(actor, chunked=False, version=version, fields=fields))
        actor.closes = True


def _answer(actor, token, method, path, body):
    """Body and status of the answer."""
    seen = b"" if path == "unread" else body
    told = f"{method} {token} {len(seen)} {zlib.crc32(seen)} {actor.client}\n".encode()
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
