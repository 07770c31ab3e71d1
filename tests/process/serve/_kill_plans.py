"""The plan of a scenario in the test of random kills: a pure function of its seed. See `_random_kills`."""

import itertools
import math
import random
from dataclasses import dataclass

from ._kill_clients import PAUSE_SECONDS, begin, plan_client
from ._kill_http import Http
from ._kill_lines import Lines


@dataclass
class Plan:
    seed: str
    kind: str
    clients: list
    steps: list  # of (number of the client or None, verb, argument)

    def told(self):
        """Return the steps with long data cut, to be printed."""
        return [(who, verb, _short(what)) for who, verb, what in self.steps]


def planned(seed, token, interface, proxied):
    """Make the plan of this seed; all its tokens begin with ``token``."""
    rng = random.Random(f"{seed}/{interface}/{proxied}")
    maker = Http(rng, token) if interface == "asgi" else Lines(rng, token)
    kind = rng.choice(maker.kinds)
    numbers = itertools.count()
    victims = [plan_client(rng, next(numbers), proxied) for _ in range(rng.randint(1, 3))]
    for victim in victims:
        maker.secret(victim)
    steps = [step for victim in victims for step in victim.steps]
    subjects = [plan_client(rng, next(numbers), proxied) for _ in range(rng.choice((1, 1, 2, 3)))]
    for index, subject in enumerate(subjects):
        begin(rng, subject, halves=proxied and (kind == "header" or rng.random() < 0.2))
        maker.act(subject, kind if index == 0 else rng.choice(maker.kinds))
    steps += _armed(rng, _merged(rng, subjects), kind)
    for subject in subjects:
        if not (subject.resets or subject.hostile):
            steps.append((subject.number, "answer", len(subject.exchanges)))
    for victim in victims:
        victim.steps = []
        maker.again(victim)
        steps += victim.steps
    return Plan(seed, kind, victims + subjects, steps)


def _merged(rng, clients):
    """Merge the steps of all clients in a random order that keeps the order of each client."""
    left = [list(client.steps) for client in clients]
    merged = []
    while any(left):
        merged.append(rng.choice([steps for steps in left if steps]).pop(0))
    return merged


def _armed(rng, steps, kind):
    """Add the order of a death before one of the steps, and sometimes more deaths."""
    opened = [index for index, (_, verb, _) in enumerate(steps) if verb == "open"]
    event, at = rng.choice((("handoff", rng.choice(opened)), ("call", rng.randrange(len(steps)))))
    before = []
    if kind == "urgent":
        event, at = "handoff", rng.choice(opened)
    if kind == "move" and rng.random() < 0.5:  # the worker dies to which it moves
        event, at = "handoff", rng.randint(opened[-1] + 1, len(steps) - 1)
        before = [(None, "pause", PAUSE_SECONDS)]
    if kind == "bare":  # the worker dies in the last answer
        event, at = "call", max(index for index, (_, verb, _) in enumerate(steps) if verb == "send")
    if rng.random() < 0.2:
        before.append((None, "next", f"opcodes {_count(rng, 1, 1500)}"))
    death = (
        f"ms {rng.randint(0, 30)}"
        if kind == "urgent" or rng.random() < 0.25
        else f"opcodes {_count(rng, 3, 5000)}"
    )
    steps = [*steps[:at], *before, (None, "arm", (event, death)), *steps[at:]]
    if rng.random() < 0.12:
        way = rng.choice(("retire", "retire", "reload"))
        steps.insert(rng.randint(at, len(steps)), (None, way, rng.random()))
    return steps


def _count(rng, least, most):
    """Choose a number, with small ones as likely as large ones: much happens at the beginning."""
    return int(math.exp(rng.uniform(math.log(least), math.log(most))))


def _short(what):
    return f"{what[:40]!r}... ({len(what)} bytes)" if isinstance(what, bytes) and len(what) > 60 else what
