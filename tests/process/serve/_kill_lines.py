"""Clients that send lines to the raw handler of ``kills_app.py``, and the right answers."""

import itertools
import zlib

from ._kill_clients import LINGER_SECONDS, URGENT, Exchange, begin


class Lines:
    """Clients of the raw handler."""

    kinds = (
        "lines",
        "move",
        "move",
        "halves",
        "large",
        "late",
        "halfclosed",
        "reset",
        "urgent",
        "header",
        "packed",
    )

    def __init__(self, rng, token):
        self.rng = rng
        self.token = token
        self.count = itertools.count()

    def line(self, client, what=None, size=None):
        """Make a line and its answer; both depend on the lines before."""
        rng = self.rng
        what = what or rng.choice(("say", "say", "late", "move", "halves", "large"))
        token = f"{self.token}.{client.number}.{next(self.count)}."
        size = rng.choice((0, 10, 2000, 20_000)) if size is None else size
        data = f"{token} {what} {((token + 'secret') * size)[:size]}\n".encode()
        total = zlib.crc32(b"".join(exchange.data for exchange in client.exchanges) + data)
        reply = f"{len(client.exchanges) + 1} {total:08x} {token}\n".encode()
        reply = reply * 5000 if what == "large" else reply
        exchange = Exchange(token, data, "LINE", reply, plain=what not in {"halves", "large"})
        client.exchanges.append(exchange)
        return exchange

    def secret(self, client):
        begin(self.rng, client, halves=False)
        self._say(client, "say", self.rng.choice((10, 3000, 25_000)))
        client.steps.append((client.number, "answer", len(client.exchanges)))

    def again(self, client):
        self._say(client, "say", 10)
        client.steps.append((client.number, "answer", len(client.exchanges)))

    def _say(self, client, what=None, size=None):
        data = self.line(client, what, size).data
        cut = self.rng.randrange(1, len(data)) if self.rng.random() < 0.4 else 0
        client.steps += [(client.number, "send", part) for part in (data[:cut], data[cut:]) if part]

    def act(self, client, kind):
        rng = self.rng
        what = {"move": "move", "halves": "halves", "large": "large", "late": "late"}.get(kind)
        count = rng.randint(1, 4)
        if kind in {"move", "packed"}:  # several lines at once: what is behind a move is unread then
            lines = [
                self.line(client, what if index == 0 else None, rng.choice((0, 10, 2000))) for index in range(4)
            ]
            data = b"".join(exchange.data for exchange in lines)
            cut = rng.randrange(1, len(data))
            client.steps += [(client.number, "send", part) for part in (data[:cut], data[cut:])]
            return
        for _ in range(count):
            self._say(client, what)
            if rng.random() < 0.5:
                client.steps.append((client.number, "answer", len(client.exchanges)))
        if kind == "halfclosed":
            client.steps.append((client.number, "shut", None))
            client.closes = True
        elif kind == "reset":
            client.resets = True
            client.steps.append((client.number, "reset", None))
        elif kind == "urgent":
            client.hostile = True
            client.steps.append((client.number, "send", b"x"))
            client.steps.append((client.number, "urgent", (rng.choice(URGENT), rng.random() < 0.7)))
            client.steps.append((client.number, "linger", LINGER_SECONDS))
            client.steps.append((client.number, "send", b"\n"))
            client.steps.append((client.number, "linger", LINGER_SECONDS / 4))
