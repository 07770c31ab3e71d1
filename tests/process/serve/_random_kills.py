"""Workers killed at random bytecodes, in scenarios of all kinds: plays them, and judges what came of each.

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
from ._kill_plans import planned
from ._kill_verdicts import Books, verdicts
from ._kill_wire import Wire, responses

WORKERS = 4  # with the spare ones


@dataclass
class RequestCount:
    """Of one server: deaths by the kind of scenario, outcomes by name, and what was violated."""

    deaths: Counter = field(default_factory=Counter)
    doubles: int = 0
    scenarios: int = 0
    outcomes: Counter = field(default_factory=Counter)
    violations: list = field(default_factory=list)


class Stage:
    """One server on which scenarios are played.

    Args:
        server: Of ``kills_app.py``.
        tools: The helpers of the tests.
        unix: The path at which it listens too.
        interface: asgi or stream.
        proxied: Its connections begin with PROXY headers.
    """

    def __init__(self, server, tools, unix, interface, proxied):
        self.server, self.unix = server, unix
        self.interface, self.proxied = interface, proxied
        self.books = Books(server.folder / "executed")
        self.tally = RequestCount()
        self._deaths = 0
        self._wait = partial(tools.wait_until, now=server.log)
        self._state_of = tools.state_of
        # Of these, one may be the last status request's.
        self._at_first = min(self._wait(self._descriptors, "all workers are ready: ") for _ in range(5))

    def kind(self, seed):
        """Of the scenario of this seed."""
        return planned(seed, "s", self.interface, self.proxied).kind

    def play(self, seed):
        """A scenario; what came of it is in the tally."""
        plan = planned(seed, f"s{self.tally.scenarios}", self.interface, self.proxied)
        self.books.expect(seed, plan)
        self.tally.scenarios += 1
        wires = {}
        try:
            for who, verb, what in plan.steps:
                actor = None if who is None else plan.actors[who]
                self._step(plan, wires, actor, verb, what)
            self._call_off()
            deaths = self._died()
            found = self.books.check()
            found += verdicts(plan, wires, len(deaths), self.tally.outcomes, self.books)
        finally:
            (self.server.folder / f"s{self.tally.scenarios - 1}.over").touch()
            for wire in wires.values():
                wire.close()
        self.tally.deaths[plan.kind] += len(deaths)
        self.tally.doubles += len(deaths) > 1
        if found:
            self._violated(plan, wires, deaths, found)

    def _step(self, plan, wires, actor, verb, what):
        if actor is None:
            getattr(self, f"_{verb}")(what)
        elif verb == "open":
            wires[actor.number] = Wire(self.unix if actor.unix else self.server.address, actor.slow)
        elif verb == "answer":
            self._answered(actor, wires[actor.number], what)
        elif verb == "interim":
            wire = wires[actor.number]
            before = len(wire.data)
            wire.read_until(lambda: b"\r\n\r\n" in wire.data[before:])
        elif verb == "linger":
            wires[actor.number].read_until(lambda: False, what)
        elif verb == "urgent":
            if not actor.unix:
                self._urgent(wires[actor.number], *what)
        elif not wires[actor.number].end:
            getattr(wires[actor.number], verb)(*([] if what is None else [what]))

    def _answered(self, actor, wire, count):
        """Until so many of its requests are."""
        expected = actor.said[:count]

        def enough():
            if expected[0].method == "LINE":
                return len(wire.data) >= sum(len(said.answer) for said in expected)
            found, _ = responses(bytes(wire.data), [said.method for said in expected])
            return len(found) == count and found[-1].whole

        if not wire.read_until(enough) and not wire.end:
            wire.end = "silence"

    def _urgent(self, wire, count, unseen):
        """Urgent bytes. Of those that come while nobody looks none is ever read; of others some are, as data."""
        pids = self.server.workers() if unseen else []
        self._pause(PAUSE_SECONDS)
        self._signal(pids, signal.SIGSTOP)
        for pid in pids:
            self._wait(lambda pid=pid: self._state_of(pid) in "TZX", f"{pid} is stopped: ")
        wire.urgent(count)
        self._signal(pids, signal.SIGCONT)

    def _signal(self, pids, number):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    # Verbs of nobody

    def _arm(self, order):
        event, death = order
        self._write(f"kill.{event}", death)

    def _next(self, death):
        self._write("next", death)

    def _write(self, name, text):
        (self.server.folder / "new").write_text(text)
        os.rename(self.server.folder / "new", self.server.folder / name)

    def _pause(self, seconds):
        """So long that what was sent has been read on its own, most of the time: nothing hangs on it."""
        select.select([], [], [], seconds)

    def _retire(self, fraction):
        pids = self.server.workers()
        self._signal(pids[int(fraction * len(pids)) :][:1], signal.SIGTERM)

    def _reload(self, _):
        self.server.kill(signal.SIGHUP)

    def _call_off(self):
        """No death is to come any more."""
        folder = self.server.folder
        for path in ("next", "kill.handoff", "kill.call"):
            (folder / path).unlink(missing_ok=True)
        for path in folder.glob("killing.*"):
            path.unlink(missing_ok=True)

    def _died(self):
        """Where workers died since it was asked last."""
        try:
            lines = (self.server.folder / "deaths").read_text().splitlines()
        except FileNotFoundError:
            return []
        new, self._deaths = lines[self._deaths :], len(lines)
        return new

    def settle(self):
        """At the end: the books agree, and the dispatcher has closed what it had."""
        try:
            self.server.wait_connections(live=0)
            self._wait(lambda: 0 < self._descriptors() <= self._at_first, "no more descriptors than at first: ")
        except AssertionError as error:
            self.tally.violations.append(str(error))
        self.tally.violations += self.books.check()

    def _descriptors(self):
        """How many the dispatcher has, once all workers are there."""
        states = [worker["state"] for worker in self.server.status()["workers"]]
        return states == ["ready"] * WORKERS and len(os.listdir(f"/proc/{self.server.pid}/fd"))

    def _violated(self, plan, wires, deaths, found):
        lines = [f"seed {plan.seed!r} ({plan.kind}), {self.interface}, proxied={self.proxied}:"]
        lines += [f"  VIOLATED {one}" for one in found]
        lines += [f"  died: {death}" for death in deaths]
        lines += [f"  step {step}" for step in plan.told()]
        for number, wire in wires.items():
            actor = plan.actors[number]
            came = f"{bytes(wire.data[:200])!r} .. {bytes(wire.data[-60:])!r}" if wire.data else "nothing"
            lines.append(f"  client {number} ({'unix' if actor.unix else 'tcp'}): {wire.end}, {came}")
        lines += [f"  executed {line}" for line in self.books.lines(plan)]
        self.tally.violations.append("\n".join(lines))
        print("\n" + self.tally.violations[-1], flush=True)  # a long run need not come to its end
