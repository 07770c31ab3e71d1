"""Clients that send lines to the raw handler of ``kills_app.py``, and what they have to be answered."""

import itertools
import zlib

from ._kill_clients import LINGER_SECONDS, URGENT, Said, begin


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

    def line(self, actor, what=None, size=None):
        """A line, and what it is answered; both depend on those before."""
        rng = self.rng
        what = what or rng.choice(("say", "say", "late", "move", "halves", "large"))
        token = f"{self.token}.{actor.number}.{next(self.count)}."
        size = rng.choice((0, 10, 2000, 20_000)) if size is None else size
        data = f"{token} {what} {((token + 'secret') * size)[:size]}\n".encode()
        total = zlib.crc32(b"".join(said.data for said in actor.said) + data)
        reply = f"{len(actor.said) + 1} {total:08x} {token}\n".encode()
        reply = reply * 5000 if what == "large" else reply
        said = Said(token, data, "LINE", reply, plain=what not in {"halves", "large"})
        actor.said.append(said)
        return said

    def secret(self, actor):
        begin(self.rng, actor, halves=False)
        self._say(actor, "say", self.rng.choice((10, 3000, 25_000)))
        actor.steps.append((actor.number, "answer", len(actor.said)))

    def again(self, actor):
        self._say(actor, "say", 10)
        actor.steps.append((actor.number, "answer", len(actor.said)))

    def _say(self, actor, what=None, size=None):
        data = self.line(actor, what, size).data
        cut = self.rng.randrange(1, len(data)) if self.rng.random() < 0.4 else 0
        actor.steps += [(actor.number, "send", part) for part in (data[:cut], data[cut:]) if part]

    def act(self, actor, kind):
        rng = self.rng
        what = {"move": "move", "halves": "halves", "large": "large", "late": "late"}.get(kind)
        count = rng.randint(1, 4)
        if kind in {"move", "packed"}:  # several lines at once: what is behind a move is unread then
            lines = [
                self.line(actor, what if index == 0 else None, rng.choice((0, 10, 2000))) for index in range(4)
            ]
            data = b"".join(said.data for said in lines)
            cut = rng.randrange(1, len(data))
            actor.steps += [(actor.number, "send", part) for part in (data[:cut], data[cut:])]
            return
        for _ in range(count):
            self._say(actor, what)
            if rng.random() < 0.5:
                actor.steps.append((actor.number, "answer", len(actor.said)))
        if kind == "halfclosed":
            actor.steps.append((actor.number, "shut", None))
            actor.closes = True
        elif kind == "reset":
            actor.resets = True
            actor.steps.append((actor.number, "reset", None))
        elif kind == "urgent":
            actor.hostile = True
            actor.steps.append((actor.number, "send", b"x"))
            actor.steps.append((actor.number, "urgent", (rng.choice(URGENT), rng.random() < 0.7)))
            actor.steps.append((actor.number, "linger", LINGER_SECONDS))
            actor.steps.append((actor.number, "send", b"\n"))
            actor.steps.append((actor.number, "linger", LINGER_SECONDS / 4))
