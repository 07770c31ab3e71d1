"""One open stream in custody in a simulated kernel, with the real engine, observed at every store.

The worker may die after any store into the slot, after anything that the kernel does and after each step of the
application; at each of these moments `LiveWorld.check` holds what `recovery.decide` says against what is true.
"""

import asyncio
import contextlib
import logging
import os
import random
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

from fdpass.serve.dispatcher import custody, recovery
from fdpass.serve.dispatcher.recovery import Action, Facts, agrees, decide, is_idle
from fdpass.serve.keeper.estate import Estate
from fdpass.serve.shared import pages
from fdpass.serve.shared.slots import (
    BASE,
    BUFFER,
    FINAL_END,
    FLAGS,
    OPEN,
    ORIGIN,
    POSITION,
    READ,
    WRITTEN,
    WROTE,
    Flag,
    slot_of,
)
from fdpass.serve.worker import parking
from fdpass.serve.worker.custody import state
from fdpass.serve.worker.engines import asgi
from fdpass.serve.worker.http import ending, protocol

from ._live_worker import SLOT, LiveWorker, StateStruct
from ._requests import LOG, SOCKETS
from ._workers import SIZE

TURNS = 12  # of the loop, after which an application that waits for nothing has done all that it will
UVICORN = logging.getLogger("uvicorn.error")
PAGE = SLOT * pages.PAGE_SIZE  # where the page of the slot begins; it is the last one
DOUBT = int(Flag.READING | Flag.WRITING)


@dataclass
class LiveWorld:
    """A client, a kernel, and one worker after the other.

    Attributes:
        client: The client and the application: see `Talk` and `Feed`.
        deaths: After which of all steps the worker dies.
        leaves: After which of all moves it retires.
        stillborn: Which of all workers, from 1, die before they have begun.
        room: What the socket takes before its client reads.
        most: The most that one read or one drain moves.
        patience: Seconds after which a retiring worker ends what it still has.
        outcome: What became of the connection at the last death.
        dead: How many workers have died.
    """

    client: Any
    seed: int = 0
    deaths: frozenset = frozenset()
    leaves: frozenset = frozenset()
    stillborn: frozenset = frozenset()
    room: int = 10_000
    most: int = 10_000
    unix: bool = False
    buffers: int = 2
    patience: float = 1e6
    out: bytes = b""
    incoming: bytes = b""
    read: int = 0
    steps: int = 0
    moves: int = 0
    workers: int = 0
    dead: int = 0
    returns: int = 0
    outcome: Action | None = None
    was_reset: bool = False
    failures: list = field(default_factory=list)

    def __post_init__(self):
        self.random = random.Random(self.seed)
        self.capacity = self.room
        self.handed = b""  # what the worker of now was handed
        self.handed_at = -1  # and from where on

    # What is known

    def facts(self, memory):
        """As `custody` asks for them."""
        facts = self._counted(memory)
        return facts._replace(unsent=self.custody._unsent(SLOT, facts)) if self.words[FINAL_END] & OPEN else facts

    def _facts_of(self, words, fd):
        return self._counted(None)._replace(handed=0)

    def _counted(self, memory):
        words = self.words
        ours = len(self.handed) if self.handed_at == words[BASE] else 0
        if not self.unix:
            return Facts(True, self.read, len(self.out), ours, memory is None or agrees(words, self.read, memory))
        flags = words[FLAGS]
        read = None if flags & Flag.READING else words[READ]
        agreed = read is None or memory is None or agrees(words, read, memory)
        return Facts(True, read, None if flags & Flag.WRITING else words[WROTE], ours, agreed)

    @property
    def unsure(self):
        """What was read or written is not known for certain."""
        if self.unix and self.words[FLAGS] & DOUBT:
            return True
        return self.words[READ] != self.read and self.client.stream[self.read - 1] == 0

    def is_homeless(self, start):
        """What was read from a position on is not in a buffer."""
        words = self.words
        return self.buffers == 0 or bool(words[FLAGS] & Flag.OVERFLOW) or words[ORIGIN] > start

    def bytes_of(self, decision, memory):
        """What the next worker of a REPLAY is handed."""
        if not decision.stop:
            return self.handed
        start = (self.words[BUFFER] - 1) * SIZE
        return bytes(memory[start + decision.start : start + decision.stop])

    def sent(self, decision):
        """What has been written, and what the next worker will write first."""
        if not decision.unsent or decision.action is Action.RESET:
            return self.out
        data, end = pages.backlog(self.pages, SLOT, len(self.out))
        assert len(data) == decision.unsent
        assert end == decision.written & POSITION
        return self.out + data

    @property
    def given_back(self):
        """What has been written when a living worker gives the connection back, and what the next one writes."""
        return self.out + (pages.backlog(self.pages, SLOT, len(self.out))[0] if self.words[FINAL_END] else b"")

    def state(self, decision):
        return (decision, self.words.tolist(), self.read, len(self.out), self.client.ends, self.steps)

    # What has to hold at each moment

    def check(self, memory):
        decision = decide(self.words, self.facts(memory), "safe")
        self.client.judge(self, decision, memory, self.state(decision))
        if is_idle(self.words) and self.handed_at != self.words[BASE]:
            assert decision.action is Action.IDLE, self.state(decision)
            written = self.words[WRITTEN] & POSITION
            assert (self.read, len(self.out)) == (self.words[BASE], written), self.state(decision)

    # What happens

    def run(self):
        """Serve the client to its end; returns this."""
        pipe = os.dup(SOCKETS[1].fileno())
        idle = SimpleNamespace(cancel=lambda: None)
        loop = SimpleNamespace(call_later=lambda *_: idle, watch=lambda *_, **__: None, unwatch=lambda *_: None)
        with contextlib.ExitStack() as stack:
            for logger in (LOG, UVICORN):
                stack.enter_context(mock.patch.object(logger, "disabled", True))
            for module in [each for name, each in sys.modules.items() if name.startswith("fdpass.serve")]:
                if hasattr(module, "BUFFER_SIZE"):
                    stack.enter_context(mock.patch.object(module, "BUFFER_SIZE", SIZE))
            for module in (ending, parking, protocol):
                stack.enter_context(mock.patch.object(module, "unread", self.unread))
            for name in ("_LOOK_SECONDS", "_HEAD_SECONDS"):  # time is counted in turns of the loop here
                stack.enter_context(mock.patch.object(asgi, name, 0))
            stack.enter_context(mock.patch.object(state, "_STATE", StateStruct(state._STATE)))
            for name in ("reset", "shut_down"):
                stack.enter_context(mock.patch.object(custody, name, mock.Mock()))
            stack.enter_context(mock.patch.object(custody, "facts_of", self._facts_of))
            self.custody = custody.Custody(loop, Estate.private(SLOT + 1), "safe")
            stack.callback(self.custody.close)
            self.custody.keep(SLOT, pipe)
            self.words = slot_of(self.custody._words, SLOT)
            stack.callback(self.words.release)
            self.pages = self.custody._pages
            asyncio.run(self.live())
            self.words = memoryview(bytearray(self.words)).cast("q")
        assert recovery.BUFFER_SIZE != SIZE
        if self.failures:
            raise self.failures[0]
        return self

    def unread(self, _):
        """As `passed_socket.unread`."""
        return len(self.incoming)

    async def live(self):
        again, read = True, b""
        while again and self.workers < 30:
            self.workers += 1
            self.handed, self.handed_at = read, self.words[BASE] if read else -1
            if self.workers in self.stillborn and self.workers > 1:
                again, read = self.recover(None)
                continue
            worker = LiveWorker(self)
            await worker.start(read)
            await self.drive(worker)
            read = b""
            if worker.dead:
                await self.bury(worker)
                again, read = self.recover(worker)
                continue
            again = worker.passed.returned
            if again:
                read = self.take_back(worker)
            elif worker.leaving and not self.patience:
                self.was_reset = True  # its time was over
            await self.settle()
            worker.die()
            await self.bury(worker)
        if not self.failures and self.outcome in {None, Action.IDLE, Action.REPLAY} and not self.was_reset:
            try:
                self.client.served(self)
            except AssertionError as error:
                self.failures.append(error)

    async def settle(self):
        """Let the loop do what it has to."""
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def bury(self, worker):
        """What a dead worker's tasks still do never was."""
        for _ in range(50):
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            if not tasks:
                break
            for task in tasks:  # a first cancel may be answered, and others begin meanwhile
                task.cancel()
            await asyncio.sleep(0)
        await self.settle()
        self.pages[PAGE:] = worker.page

    def closed(self, passed):
        """The worker has closed its socket."""

    def take_back(self, worker):
        """A living worker has given the connection back."""
        read = bytes(worker.passed.read)
        words = self.words
        self.returns += 1
        try:
            if words[WRITTEN] & OPEN:
                self.client.judge_return(self, words[BASE], words[WRITTEN], read, words.tolist())
            else:
                assert not read or read == self.client.stream[words[BASE] : self.read], words.tolist()
            self.custody.take_back(SLOT, read)
        except AssertionError as error:
            self.failures.append(error)
        self.outcome = None
        return read

    def recover(self, worker):
        left = worker.left if worker else b""
        self.dead += 1
        facts = self.facts(left)
        if facts.handed or not is_idle(self.words):
            decision = decide(self.words, facts, "safe")
            try:
                self.client.judge(self, decision, left, self.state(decision))
            except AssertionError as error:
                self.failures.append(error)
            expected = decision.action
        else:
            expected = Action.IDLE
        if expected not in {Action.IDLE, Action.REPLAY}:
            self.outcome = expected
            return False, b""
        self.outcome, read = self.custody.recover(SLOT, left)
        if self.outcome is not expected:
            self.failures.append(AssertionError(self.outcome, expected, self.words.tolist()))
        return self.outcome in {Action.IDLE, Action.REPLAY}, read

    async def drive(self, worker):
        quiet = 0
        while quiet < TURNS and not worker.dead and not worker.over:
            self.incoming += self.client.send(self.out)
            self.moves += 1
            if self.moves in self.leaves:
                worker.leave()
            moves = worker.moves
            if self.room < self.capacity:
                moves.append(self.drain)
            quiet = 0 if moves else quiet + 1
            if moves and self.random.random() < 0.7:
                self.random.choice(moves)()
            else:
                await asyncio.sleep(0)

    def drain(self):
        """The client reads."""
        self.room = min(self.capacity, self.room + self.random.randint(1, self.most))
