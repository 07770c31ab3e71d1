"""The promises to each client in the test of random kills, and whether they were kept."""

import re
from collections import Counter

from ._kill_connections import responses

UNIX_ENDS_LOUDLY = False
"""Whether a cut answer over a Unix socket has to end with an error, too."""

REASON = b"The process that worked on this request ended.\n"
SAFE = {"GET", "HEAD"}
_TOKEN = re.compile(rb"s\d+\.\d+\.\d+\.")
_FILLER = re.compile(r"x?!*")  # what a line with urgent bytes may be
_SCENARIO = re.compile(r"(\d+)\.\d+\.\d+\.$")  # of what may be a part of a token


class ExecutionLog:
    """The requests that the application has executed, by token.

    Args:
        path: The file that the application writes.
    """

    def __init__(self, path):
        self._path = path
        self._position = 0
        self._methods = {}
        self._seeds = {}
        self._lines = []
        self.count = Counter()

    def expect(self, seed, plan):
        """Allow the requests of a plan to be executed from now on."""
        for client in plan.clients:
            for exchange in client.exchanges:
                self._methods[exchange.token] = exchange.method
                self._seeds[exchange.token.split(".")[0].removeprefix("s")] = seed

    def read(self):
        """Read the new lines."""
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
        """Return the violations in the new lines, of whichever scenario."""
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
        """Return the lines of one scenario."""
        tokens = {exchange.token for client in plan.clients for exchange in client.exchanges}
        return [line for line in self._lines if line.split()[0] in tokens]

    def times(self, token):
        return self.count[token]


def verdicts(plan, connections, deaths, outcomes, executions):
    """Return the violations of the promises to the clients of a plan.

    Args:
        plan: The plan that was played.
        connections: The connection of each client, by the client's number.
        deaths: The number of workers that died.
        outcomes: A counter of outcomes, to add to.
        executions: The requests that were executed.
    """
    found = []
    for number, connection in connections.items():
        client = plan.clients[number]
        own = {exchange.token.encode() for exchange in client.exchanges}
        strange = set(_TOKEN.findall(bytes(connection.data))) - own
        if strange:
            found.append(f"client {number} got bytes of others: {strange}")
        if client.resets or client.hostile:
            continue
        judge = _lines if client.exchanges[0].method == "LINE" else _http
        names = judge(client, connection, found)
        outcomes.update(names)
        for exchange, name in zip(client.exchanges, names, strict=False):
            if (
                name == "whole"
                and exchange.status
                and exchange.method != "LINE"
                and not executions.times(exchange.token)
            ):
                found.append(f"{exchange.token} was answered but not executed")
        if deaths <= 1:
            found += _strictly(client, names)
    return found


def _http(client, connection, found):
    """Return the outcome of each request: whole, 502, cut or none."""
    answers, rest = responses(bytes(connection.data), [exchange.method for exchange in client.exchanges])
    names = []
    for exchange, answer in zip(client.exchanges, answers, strict=False):
        names.append(_name(exchange, answer, connection, found))
        if names[-1] != "whole":
            break
    if rest and names[-1:] != ["cut"]:
        found.append(f"client {client.number}: {rest[:80]!r} follows its answers")
    _ended(client, connection, names, found)
    return names + ["none"] * (len(client.exchanges) - len(names))


def _name(exchange, answer, connection, found):
    if answer.whole is None:
        answer.whole = connection.end == "eof"
    if not answer.whole:
        if not exchange.answer.startswith(answer.body) and answer.status == 200:
            found.append(f"{exchange.token}: a part that is not of its answer: {answer.body[:80]!r}")
        return "cut"
    if (answer.status, answer.body) == (502, REASON):
        return "502"
    if exchange.status and (answer.status, answer.body) != (exchange.status, exchange.answer):
        found.append(f"{exchange.token}: a whole answer that is not its own: {answer.status} {answer.body[:80]!r}")
    return "whole"


def _ended(client, connection, names, found):
    """Check the end of a connection: no client waits for ever, and a cut answer ends with an error."""
    who = f"client {client.number} ({'unix' if client.unix else 'tcp'})"
    if connection.end == "silence":
        found.append(f"{who} waits for ever")
    failed = len(names) < len(client.exchanges) or "cut" in names
    quiet = connection.end == "eof" and failed and "502" not in names
    if quiet and client.unix and not UNIX_ENDS_LOUDLY:
        names.append("quiet")
    elif quiet and "cut" in names:
        found.append(f"{who}: a cut answer and a plain end")
    elif quiet and not (client.closes or any(exchange.opaque for exchange in client.exchanges)):
        found.append(f"{who}: a plain end in the place of an answer")


def _strictly(client, names):
    """Check, after at most one death, that no request over TCP is cut which can be repeated or refused."""
    if client.unix:
        return []
    found = []
    for exchange, name in zip(client.exchanges, names, strict=False):
        allowed = {"whole"} if exchange.method in SAFE or exchange.method == "LINE" else {"whole", "502"}
        if not exchange.plain:
            break
        if name not in allowed:
            found.append(f"{exchange.method} {exchange.token} after one death: {name}")
        if name != "whole":
            break
    return found


def _lines(client, connection, found):
    """Return the outcome of each line: whole, cut or none."""
    data = bytes(connection.data)
    names = []
    for exchange in client.exchanges:
        part, data = data[: len(exchange.answer)], data[len(exchange.answer) :]
        if not exchange.answer.startswith(part):
            found.append(f"{exchange.token}: answered {part[:80]!r}, not {exchange.answer[:80]!r}")
        if len(part) < len(exchange.answer):
            names += ["cut"] if part else []
            break
        names.append("whole")
    if data:
        found.append(f"client {client.number}: {data[:80]!r} follows its answers")
    _ended(client, connection, names, found)
    return names + ["none"] * (len(client.exchanges) - len(names))
