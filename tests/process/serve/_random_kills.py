"""Plays scenarios of all kinds in which workers are killed at random bytecodes, and checks the outcome of each.

A scenario (`_kill_plans`) is clients that send, read, shut down, reset and wait, in an order that its seed says;
a death is ordered in between (`kills_countdown.py`). A death that did not come to pass is called off, and does not
count. What is checked stands in `_kill_verdicts`.
"""

import contextlib
import os
import select
import signal
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

from ._kill_clients import PAUSE_SECONDS
from ._kill_connections import Connection, responses
from ._kill_plans import planned
from ._kill_verdicts import ExecutionLog, verdicts

WORKERS = 4  # with the spare ones


@dataclass
class Tally:
    """What happened on one server: deaths by kind of scenario, outcomes by name, and violations."""

    deaths: Counter = field(default_factory=Counter)
    doubles: int = 0
    scenarios: int = 0
    outcomes: Counter = field(default_factory=Counter)
    violations: list = field(default_factory=list)


class ScenarioServer:
    """One server on which scenarios are played.

    Args:
        server: A server that serves ``kills_app.py``.
        tools: The helpers of the tests.
        unix: The path of the server's Unix socket.
        interface: asgi or stream.
        proxied: Whether connections begin with PROXY headers.
    """

    def __init__(self, server, tools, unix, interface, proxied):
        self.server, self.unix = server, unix
        self.interface, self.proxied = interface, proxied
        self.executions = ExecutionLog(server.folder / "executed")
        self.tally = Tally()
        self._deaths = 0
        self._wait = partial(tools.wait_until, now=server.log)
        self._state_of = tools.state_of
        # Of these, one may be the last status request's.
        self._at_first = min(self._wait(self._descriptors, "all workers are ready: ") for _ in range(5))

    def kind(self, seed):
        """Return the kind of the scenario of this seed."""
        return planned(seed, "s", self.interface, self.proxied).kind

    def play(self, seed):
        """Play a scenario, and add its outcome to the tally."""
        plan = planned(seed, f"s{self.tally.scenarios}", self.interface, self.proxied)
        self.executions.expect(seed, plan)
        self.tally.scenarios += 1
        connections = {}
        try:
            for who, verb, what in plan.steps:
                client = None if who is None else plan.clients[who]
                self._step(plan, connections, client, verb, what)
            self._call_off()
            deaths = self._died()
            found = self.executions.check()
            found += verdicts(plan, connections, len(deaths), self.tally.outcomes, self.executions)
        finally:
            (self.server.folder / f"s{self.tally.scenarios - 1}.over").touch()
            for connection in connections.values():
                connection.close()
        self.tally.deaths[plan.kind] += len(deaths)
        self.tally.doubles += len(deaths) > 1
        if found:
            self._violated(plan, connections, deaths, found)

    def _step(self, plan, connections, client, verb, what):
        if client is None:
            getattr(self, f"_{verb}")(what)
        elif verb == "open":
            connections[client.number] = Connection(self.unix if client.unix else self.server.address, client.slow)
        elif verb == "answer":
            self._answered(client, connections[client.number], what)
        elif verb == "interim":
            connection = connections[client.number]
            before = len(connection.data)
            connection.read_until(lambda: b"\r\n\r\n" in connection.data[before:])
        elif verb == "linger":
            connections[client.number].read_until(lambda: False, what)
        elif verb == "urgent":
            if not client.unix:
                self._urgent(connections[client.number], *what)
        elif not connections[client.number].end:
            getattr(connections[client.number], verb)(*([] if what is None else [what]))

    def _answered(self, client, connection, count):
        """Wait until so many of the client's requests are answered."""
        expected = client.exchanges[:count]

        def enough():
            if expected[0].method == "LINE":
                return len(connection.data) >= sum(len(exchange.answer) for exchange in expected)
            found, _ = responses(bytes(connection.data), [exchange.method for exchange in expected])
            return len(found) == count and found[-1].whole

        if not connection.read_until(enough) and not connection.end:
            connection.end = "silence"

    def _urgent(self, connection, count, unseen):
        """Send urgent bytes. Workers never read those that come while they are stopped; else some, as data."""
        pids = self.server.workers() if unseen else []
        self._pause(PAUSE_SECONDS)
        self._signal(pids, signal.SIGSTOP)
        for pid in pids:
            self._wait(lambda pid=pid: self._state_of(pid) in "TZX", f"{pid} is stopped: ")
        connection.urgent(count)
        self._signal(pids, signal.SIGCONT)

    def _signal(self, pids, number):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    # Steps of no client

    def _arm(self, order):
        event, death = order
        self._write(f"kill.{event}", death)

    def _next(self, death):
        self._write("next", death)

    def _write(self, name, text):
        (self.server.folder / "new").write_text(text)
        os.rename(self.server.folder / "new", self.server.folder / name)

    def _pause(self, seconds):
        """Wait so long that what was sent is read by itself, most of the time; no check depends on it."""
        select.select([], [], [], seconds)

    def _retire(self, fraction):
        pids = self.server.workers()
        self._signal(pids[int(fraction * len(pids)) :][:1], signal.SIGTERM)

    def _reload(self, _):
        self.server.kill(signal.SIGHUP)

    def _call_off(self):
        """Cancel all deaths that are still ordered."""
        folder = self.server.folder
        for path in ("next", "kill.handoff", "kill.call"):
            (folder / path).unlink(missing_ok=True)
        for path in folder.glob("killing.*"):
            path.unlink(missing_ok=True)

    def _died(self):
        """Return where workers have died since the last call."""
        try:
            lines = (self.server.folder / "deaths").read_text().splitlines()
        except FileNotFoundError:
            return []
        new, self._deaths = lines[self._deaths :], len(lines)
        return new

    def settle(self):
        """Check at the end that all connections have ended and the dispatcher has closed their descriptors."""
        try:
            self.server.wait_connections(live=0)
            self._wait(lambda: 0 < self._descriptors() <= self._at_first, "no more descriptors than at first: ")
        except AssertionError as error:
            self.tally.violations.append(str(error))
        self.tally.violations += self.executions.check()

    def _descriptors(self):
        """Return how many descriptors the dispatcher has; False unless all workers are ready."""
        states = [worker["state"] for worker in self.server.status()["workers"]]
        return states == ["ready"] * WORKERS and len(os.listdir(f"/proc/{self.server.pid}/fd"))

    def _violated(self, plan, connections, deaths, found):
        lines = [f"seed {plan.seed!r} ({plan.kind}), {self.interface}, proxied={self.proxied}:"]
        lines += [f"  VIOLATED {one}" for one in found]
        lines += [f"  died: {death}" for death in deaths]
        lines += [f"  step {step}" for step in plan.told()]
        for number, connection in connections.items():
            client = plan.clients[number]
            came = (
                f"{bytes(connection.data[:200])!r} .. {bytes(connection.data[-60:])!r}"
                if connection.data
                else "nothing"
            )
            lines.append(f"  client {number} ({'unix' if client.unix else 'tcp'}): {connection.end}, {came}")
        lines += [f"  executed {line}" for line in self.executions.lines(plan)]
        self.tally.violations.append("\n".join(lines))
        print("\n" + self.tally.violations[-1], flush=True)  # a long run need not come to its end
