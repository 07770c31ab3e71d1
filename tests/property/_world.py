"""One HTTP connection in custody in a simulated kernel, with `HttpProtocol`, observed at every store.

The worker may die after any store into the slot and after anything that the kernel does; at each of these moments
`World.check` holds what `recovery.decide` says against what is true.
"""

import asyncio
import random
from dataclasses import dataclass, field
from unittest import mock

from fdpass.serve.dispatcher import handing_on, recovery
from fdpass.serve.dispatcher.recovery import Action, Decision, Facts, agrees, decide, is_idle
from fdpass.serve.shared.slots import (
    BASE,
    BUFFER,
    CALLED_BEFORE,
    CONTINUE,
    FLAGS,
    ORIGIN,
    READ,
    WORDS,
    WRITTEN,
    WROTE,
    Flag,
)
from fdpass.serve.worker.custody import buffers
from fdpass.serve.worker.custody import reader as intake
from fdpass.serve.worker.http import protocol
from fdpass.serve.worker.transport.http_custody import HttpCustody

from ._requests import LOG, answer
from ._workers import SIZE, Worker

REPEATABLE = {"none": (), "safe": ("GET", "HEAD"), "idempotent": ("GET", "HEAD", "PUT", "DELETE")}
TURNS = 10  # of the loop, after which an application that waits for nothing has done all that it will


@dataclass
class World:
    """A client, a kernel, and one worker after the other.

    Attributes:
        deaths: After which of all steps the worker dies.
        leaves: After which of all moves it retires.
        stillborn: Which of all workers, from 1, die before they have begun with what they are handed.
        room: What the socket takes before its client reads.
        most: The most that one read or one drain moves.
        ahead: How many bytes the kernel has counted as received that no read returns: urgent ones, if they are not
            in line. Below 0, its counter is late by so many.
        outcome: What became of the connection at the last death.
    """

    requests: list
    seed: int = 0
    deaths: frozenset = frozenset()
    leaves: frozenset = frozenset()
    stillborn: frozenset = frozenset()
    room: int = 10_000
    most: int = 10_000
    unix: bool = False
    buffers: int = 2
    replay: str = "safe"
    ahead: int = 0
    slot: list = field(default_factory=lambda: [0] * WORDS)
    out: bytes = b""
    incoming: bytes = b""
    read: int = 0
    steps: int = 0
    outcome: Action | None = None

    def __post_init__(self):
        self.random = random.Random(self.seed)
        self.stream, self.starts, self.due, self.ends = b"", [], b"", []
        for number, one in enumerate(self.requests):
            one.answer = answer(one.data, self.unix).replace(CONTINUE, b"")
            one.number, one.calls = number, 0
            self.starts.append(len(self.stream))
            self.stream += one.data
            self.due += one.answer
            self.ends.append(len(self.due))
            if one.closing:
                break
        self.starts.append(len(self.stream))
        self.stream += b"".join(one.data for one in self.requests[len(self.ends) :])
        self.sent = self.moves = 0  # requests that the client has sent; what was done
        self.capacity = self.room
        self.failures = []
        self.workers = 0
        self.handed, self.handed_at = b"", 0  # what the worker of now was handed, and from where on
        self.replays = [0] * (len(self.requests) + 1)
        self.calls = [0] * (len(self.requests) + 1)  # of these, those whose worker had called the application

    def begin(self, scope):
        """The application is called."""
        name = scope["path"].rpartition("/")[2]
        one = self.requests[int(name)]
        one.calls += 1
        if scope["extensions"]["fdpass"] != {"attempt": self.replays[one.number], "slot": 7}:
            self.failures.append(AssertionError(scope["extensions"], self.replays))

    def facts(self, memory):
        """As `custody` asks for them."""
        ours = len(self.handed) if self.handed_at == self.slot[BASE] else 0
        if not self.unix:
            read = max(0, self.read + self.ahead)
            return Facts(True, read, len(self.out), ours, agrees(self.slot, read, memory))
        flags = self.slot[FLAGS]
        read = None if flags & Flag.READING else self.slot[READ]
        agreed = read is None or agrees(self.slot, read, memory)
        return Facts(True, read, None if flags & Flag.WRITING else self.slot[WROTE], ours, agreed)

    # What has to hold at each moment

    @property
    def answered(self):
        """How many requests were answered wholly, and whether part of one more answer has gone out."""
        answers, cut = self.answers
        whole = sum(end <= len(answers) for end in self.ends)
        return whole, cut or len(answers) > ([0, *self.ends])[whole]

    @property
    def answers(self):
        """What has gone out without `100 Continue`, and whether a part of one is the last of it."""
        out = self.out.replace(CONTINUE, b"")
        if not self.due.startswith(out):
            for size in range(len(CONTINUE) - 1, 0, -1):
                if out.endswith(CONTINUE[:size]) and self.due.startswith(out[:-size]):
                    return out[:-size], True
        return out, False

    def check(self, memory):
        assert self.due.startswith(self.answers[0]), (self.due, self.out)
        if is_idle(self.slot) and self.handed_at != self.slot[BASE]:
            assert (self.read, len(self.out)) == (self.slot[BASE], self.slot[WRITTEN]), (
                list(self.slot),
                self.read,
            )
        for policy in [self.replay] if any(self.replays) else REPEATABLE:
            decision = decide(self.slot, self.facts(memory), policy)
            self.judge(decision, policy, memory)

    def judge(self, decision, policy, memory):
        whole, partial = self.answered
        owed = self.starts[whole]  # where the first unanswered request begins
        one = self.requests[whole] if whole < len(self.requests) else None
        before = self.requests[whole - 1] if whole else None
        over = before is not None and before.closing
        action, slot = decision.action, self.slot
        state = (decision, list(slot), self.read, len(self.out), whole, partial, owed, policy, self.steps)
        if action in {Action.IDLE, Action.REPLAY}:
            assert not partial, state
            assert not over, state
            assert before is None or before.kind != "upgrade", state
            assert (decision.base, decision.written) == (owed, len(self.out)), state
        if action is Action.IDLE:
            assert self.read == owed, state
        elif action is Action.REPLAY:
            assert self.read > owed, state
            start = (slot[BUFFER] - 1) * SIZE
            found = memory[start + decision.start : start + decision.stop] if decision.stop else self.handed
            assert found == self.stream[owed : self.read], state
            assert one.calls == 0 or (one.calls == 1 and one.method in REPEATABLE[policy]), state
        elif action is Action.ANSWER:
            assert not partial, state
            assert not over, state
            if not self.ahead:
                assert self.read > owed, state
                self.judge_answer(one, policy, state)
        elif action is Action.RESET:
            assert partial or self.doubt(before) or self.ahead, state
        elif action is Action.FINISH:
            assert over, state
        elif action is Action.CLOSE:
            assert any(self.secret(each) for each in self.requests[: whole + 1]), state
            assert not (partial and one.calls), state  # a cut answer could pass for a whole one

    def judge_answer(self, one, policy, state):
        """502 only if the request must not be repeated, or is not all there."""
        slot = self.slot
        called = slot[FLAGS] & Flag.CALLED
        unsafe = called and one.method not in REPEATABLE[policy]
        often = self.calls[one.number] > 0 if called else self.replays[one.number] >= recovery.MOST_ATTEMPTS
        homeless = self.buffers == 0
        large = self.read >= SIZE and slot[ORIGIN] > self.starts[one.number]  # the buffer was full meanwhile
        unsure = slot[READ] != self.read and self.stream[self.read - 1] == 0
        assert unsafe or often or homeless or large or unsure, state

    def doubt(self, before):
        """An answer went out whole, but that it was whole could not be known before."""
        if self.unix and self.slot[FLAGS] & (Flag.READING | Flag.WRITING):
            return True
        if before is None or self.slot[WRITTEN] == len(self.out):
            return False
        nothing_last = before.kind == "tail" or (before.kind == "stream" and before.method == "HEAD")
        return nothing_last or before.kind in {"raise", "garbage"}

    def secret(self, one):
        """Where it ends only its worker knows; after an early answer, until the rest of its body has come."""
        if one.kind == "early":
            return self.slot[BASE] < self.starts[one.number + 1]
        return one.kind in {"upgrade", "odd"}

    # What happens

    def run(self):
        """Serve the client to its end; returns this."""
        with (
            mock.patch.object(LOG, "disabled", True),
            mock.patch.object(buffers, "BUFFER_SIZE", SIZE),
            mock.patch.object(intake, "BUFFER_SIZE", SIZE),
            mock.patch.object(recovery, "BUFFER_SIZE", SIZE),
            mock.patch.object(handing_on, "BUFFER_SIZE", SIZE),
            mock.patch.object(protocol, "unread", self.unread),
            mock.patch.object(HttpCustody, "hand_over", return_value=False),  # `_live_world` has open WebSockets
        ):
            asyncio.run(self.live())
        if self.failures:
            raise self.failures[0]
        for one in self.requests:
            assert one.calls <= (2 if one.method in REPEATABLE[self.replay] else 1)
        return self

    async def live(self):
        again, read = True, b""
        while again:
            self.workers += 1
            self.handed, self.handed_at = read, self.slot[BASE] if read else -1
            if self.workers in self.stillborn and self.workers > 1:
                again, read = self.recover(None)
                continue
            worker = Worker(self, read)
            await self.drive(worker)
            read = b""
            if worker.dead:
                again, read = self.recover(worker)
            else:
                again = worker.transport.passed.returned
            worker.dead = True
            while tasks := [task for one in worker.engine.exchanges if not (task := one.task).done()]:
                for task in tasks:  # a first cancel is answered with a 500, and others begin meanwhile
                    task.cancel()
                await asyncio.sleep(0)
        if not self.failures and self.outcome in {None, Action.IDLE, Action.REPLAY}:
            self.served()

    def unread(self, _):
        """As `passed_socket.unread`."""
        return len(self.incoming)

    def recover(self, worker):
        left = worker.left if worker else b""
        facts = self.facts(left)
        decision = Decision(Action.IDLE, self.slot[BASE], self.slot[WRITTEN])
        if facts.handed or not is_idle(self.slot):
            decision = decide(self.slot, facts, self.replay)
            try:
                self.judge(decision, self.replay, left)
            except AssertionError as error:  # later: what the worker has begun would not end
                self.failures.append(error)
        self.outcome = decision.action
        if self.outcome is Action.REPLAY:
            self.replays[self.answered[0]] += bool(decision.stop)
            self.calls[self.answered[0]] = decision.attempt // CALLED_BEFORE
        elif self.outcome is not Action.IDLE:
            return False, b""
        read = handing_on.bytes_to_hand(self.slot, decision, left, self.handed)
        handing_on.prepare_slot(self.slot, decision, read)
        return True, read

    def served(self):
        """Nothing was lost: everything is answered, and the connection could go on."""
        left = bool(self.leaves) and any(one.kind in {"upgrade", "odd"} for one in self.requests)
        assert self.answers == (self.due, False) or (left and len(self.out) in self.ends), (
            self.slot,
            self.read,
            self.sent,
            self.incoming,
        )
        last = self.requests[self.answered[0] - 1]
        if not last.closing and not any(one.kind in {"upgrade", "odd", "garbage"} for one in self.requests):
            decision = decide(self.slot, self.facts(b""), self.replay)
            assert is_idle(self.slot) or decision.action is Action.IDLE, self.slot

    async def drive(self, worker):
        quiet = 0
        while quiet < TURNS and not worker.dead and not worker.over:
            self.client()
            self.moves += 1
            if (self.moves in self.leaves or worker.leaving) and worker.protocol in worker.engine.connections:
                worker.leaving = True
                worker.protocol.retire()  # again and again, as the engine does it
            moves = self.possible(worker)
            quiet = 0 if moves else quiet + 1
            if moves and self.random.random() < 0.7:
                self.random.choice(moves)()
            else:
                await asyncio.sleep(0)

    def client(self):
        """It sends what it need not wait for."""
        for one in self.requests[self.sent :]:
            if one.waits and self.answered[0] < self.sent:
                break
            self.sent += 1
            self.incoming += one.data

    def possible(self, worker):
        moves = worker.moves
        if self.room < self.capacity:
            moves.append(self.drain)
        return moves

    def drain(self):
        """The client reads."""
        self.room = min(self.capacity, self.room + self.random.randint(1, self.most))
