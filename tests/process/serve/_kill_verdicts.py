"""What is promised to each client in the test of random kills, and whether it was kept."""

import re
from collections import Counter

from ._kill_wire import responses

UNIX_ENDS_LOUDLY = False
"""Whether a cut answer over a Unix socket has to end with an error, too."""

REASON = b"The process that worked on this request ended.\n"
SAFE = {"GET", "HEAD"}
_TOKEN = re.compile(rb"s\d+\.\d+\.\d+\.")
_FILLER = re.compile(r"x?!*")  # what a line with urgent bytes may be
_SCENARIO = re.compile(r"(\d+)\.\d+\.\d+\.$")  # of what may be a part of a token


class Books:
    """What the application has executed, by token.

    Args:
        path: Of the file that it writes.
    """

    def __init__(self, path):
        self._path = path
        self._position = 0
        self._methods = {}
        self._seeds = {}
        self._lines = []
        self.count = Counter()

    def expect(self, seed, plan):
        """Requests that may be executed from now on."""
        for actor in plan.actors:
            for said in actor.said:
                self._methods[said.token] = said.method
                self._seeds[said.token.split(".")[0].removeprefix("s")] = seed

    def read(self):
        """What is new."""
        if not self._path.exists():
            return []
        with open(self._path, "rb") as file:
            file.seek(self._position)
            data = file.read()
        self._position += len(data)
        new = data.decode().splitlines()
        self._lines += new
        self.count.update(line.split()[0] for line in new)
        return new

    def check(self):
        """Violations by what is new, whichever scenario it belongs to."""
        found = []
        for token in dict.fromkeys(line.split()[0] for line in self.read()):
            method, times = self._methods.get(token), self.count[token]
            most = 2 if method in SAFE else 4 if method == "LINE" else 1
            scenario = _SCENARIO.search(token)
            seed = self._seeds.get(scenario and scenario[1])
            if _FILLER.fullmatch(token):
                continue
            if method is None:
                found.append(f"{token[:40]!r} was executed, which nobody has asked for (seed {seed!r})")
            elif times > most:
                found.append(f"{method} {token} was executed {times} times (seed {seed!r})")
        return found

    def lines(self, plan):
        """Of one scenario."""
        tokens = {said.token for actor in plan.actors for said in actor.said}
        return [line for line in self._lines if line.split()[0] in tokens]

    def times(self, token):
        return self.count[token]


def verdicts(plan, wires, deaths, outcomes, books):
    """Violations of what was promised to the clients of a plan.

    Args:
        plan: That was played.
        wires: Of each client, by number.
        deaths: How many there were.
        outcomes: Counts them.
        books: What was executed, read before.
    """
    found = []
    for number, wire in wires.items():
        actor = plan.actors[number]
        own = {said.token.encode() for said in actor.said}
        strange = set(_TOKEN.findall(bytes(wire.data))) - own
        if strange:
            found.append(f"client {number} got bytes of others: {strange}")
        if actor.resets or actor.hostile:
            continue
        judge = _lines if actor.said[0].method == "LINE" else _http
        names = judge(actor, wire, found)
        outcomes.update(names)
        for said, name in zip(actor.said, names, strict=False):
            if name == "whole" and said.status and said.method != "LINE" and not books.times(said.token):
                found.append(f"{said.token} was answered but not executed")
        if deaths <= 1:
            found += _strictly(actor, names)
    return found


def _http(actor, wire, found):
    """The outcome of each request: whole, 502, cut, none."""
    answers, rest = responses(bytes(wire.data), [said.method for said in actor.said])
    names = []
    for said, answer in zip(actor.said, answers, strict=False):
        names.append(_name(said, answer, wire, found))
        if names[-1] != "whole":
            break
    if rest and names[-1:] != ["cut"]:
        found.append(f"client {actor.number}: {rest[:80]!r} follows its answers")
    _ended(actor, wire, names, found)
    return names + ["none"] * (len(actor.said) - len(names))


def _name(said, answer, wire, found):
    if answer.whole is None:
        answer.whole = wire.end == "eof"
    if not answer.whole:
        if not said.answer.startswith(answer.body) and answer.status == 200:
            found.append(f"{said.token}: a part that is not of its answer: {answer.body[:80]!r}")
        return "cut"
    if (answer.status, answer.body) == (502, REASON):
        return "502"
    if said.status and (answer.status, answer.body) != (said.status, said.answer):
        found.append(f"{said.token}: a whole answer that is not its own: {answer.status} {answer.body[:80]!r}")
    return "whole"


def _ended(actor, wire, names, found):
    """A connection that failed has to say so: who waits gets an end, and no cut answer a quiet one."""
    who = f"client {actor.number} ({'unix' if actor.unix else 'tcp'})"
    if wire.end == "silence":
        found.append(f"{who} waits for ever")
    failed = len(names) < len(actor.said) or "cut" in names
    quiet = wire.end == "eof" and failed and "502" not in names
    if quiet and actor.unix and not UNIX_ENDS_LOUDLY:
        names.append("quiet")
    elif quiet and "cut" in names:
        found.append(f"{who}: a cut answer and a plain end")
    elif quiet and not (actor.closes or any(said.opaque for said in actor.said)):
        found.append(f"{who}: a plain end in the place of an answer")


def _strictly(actor, names):
    """After one death: who has sent what can be repeated, or refused, over TCP, is not cut."""
    if actor.unix:
        return []
    found = []
    for said, name in zip(actor.said, names, strict=False):
        allowed = {"whole"} if said.method in SAFE or said.method == "LINE" else {"whole", "502"}
        if not said.plain:
            break
        if name not in allowed:
            found.append(f"{said.method} {said.token} after one death: {name}")
        if name != "whole":
            break
    return found


def _lines(actor, wire, found):
    """The outcome of each line: whole, cut, none."""
    data = bytes(wire.data)
    names = []
    for said in actor.said:
        part, data = data[: len(said.answer)], data[len(said.answer) :]
        if not said.answer.startswith(part):
            found.append(f"{said.token}: answered {part[:80]!r}, not {said.answer[:80]!r}")
        if len(part) < len(said.answer):
            names += ["cut"] if part else []
            break
        names.append("whole")
    if data:
        found.append(f"client {actor.number}: {data[:80]!r} follows its answers")
    _ended(actor, wire, names, found)
    return names + ["none"] * (len(actor.said) - len(names))
