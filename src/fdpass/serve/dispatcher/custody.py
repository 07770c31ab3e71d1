"""`Custody`: the dispatcher's own duplicate of each connection, and what it does with those of a dead worker.

This file reads the slot and the kernel's counters, `recovery` decides by them, and this file acts on the decision.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import socket
from collections import Counter
from collections.abc import Iterable
from typing import Any

from fdpass._memory import common, mapped
from fdpass._message import close_all
from fdpass._supervision.loop import Loop
from fdpass.errors import ProtocolError
from fdpass.serve.dispatcher.handing_on import bytes_to_hand, prepare_slot
from fdpass.serve.dispatcher.kernel_counters import borrowed, facts_of
from fdpass.serve.dispatcher.lingering import Lingering
from fdpass.serve.dispatcher.lost_request import (
    REASON_502,
    RESPONSE_502,
    begun,
    client_of,
    named,
    scope_of,
)
from fdpass.serve.dispatcher.recovery import Action, Decision, Facts, agrees, decide, is_given, is_idle, is_sane
from fdpass.serve.shared import pages
from fdpass.serve.shared.reset import reset
from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    CALLED_BEFORE,
    FINAL_END,
    FLAGS,
    OPEN,
    POSITION,
    SLOT_SIZE,
    WORDS,
    WRITTEN,
    Flag,
    slot_of,
)

log = logging.getLogger("fdpass.serve")

_ZEROS = bytes(SLOT_SIZE)
_CLOSE_1012 = b"\x88\x02\x03\xf4"  # a close frame (RFC 6455, 5.5.1): service restart
_DURING_STREAM = "its worker died during a stream, "
_LOGGED = {
    Action.REPLAY: (logging.INFO, "its worker died before it answered the request"),
    Action.ANSWER: (logging.WARNING, "its worker died before it answered the request, "),
    Action.RESET: (logging.WARNING, "its worker died in the middle of a response"),
    Action.CLOSE: (logging.WARNING, "its worker died, and no other process has its state"),
    Action.RESTART: (logging.WARNING, _DURING_STREAM),
}


class Custody:
    """All connections that workers have, and those that wait for a worker.

    Args:
        loop: Event loop; waits for clients to read their 502.
        most: How many connections there can be.
        replay: As of ``--replay``.

    Attributes:
        memory: The slots; workers have this memory too. Owned.
        pages: The pages of open streams (see `shared.pages`), likewise.
        answered: The requests that were answered with a 502, as scopes of ASGI; for `take_answered`.
        counts: For each action, how many connections of dead workers it was done with; IDLE also counts those that
            living workers gave back. Open streams that another worker gets are in ``resumed`` instead.
        resumed: How many times an open stream was handed to another worker.
    """

    def __init__(self, loop: Loop, most: int, replay: str) -> None:
        self.replay = replay
        self.counts: Counter[Action] = Counter()
        self.answered: list[dict[str, Any]] = []
        self.resumed = 0
        self._lingering = Lingering(loop)
        self._fds: dict[int, int] = {}  # of each slot in use, the dispatcher's descriptor
        self._handed: dict[int, tuple[int, bytes]] = {}  # by slot: bytes handed on, and their BASE
        self.memory = common(SLOT_SIZE * most, name="fdpass-slots")
        self._map = mapped(self.memory)
        self._words = memoryview(self._map).cast("q")
        self.pages = common(pages.PAGE_SIZE * most, name="fdpass-pages")
        self._pages = mapped(self.pages)

    def keep(self, slot: int, fd: int) -> None:
        """Keep the descriptor of a new connection, and clear its slot. The descriptor is given."""
        self._fds[slot] = fd
        start = slot * SLOT_SIZE
        self._map[start : start + SLOT_SIZE] = _ZEROS

    def fd(self, slot: int) -> int:
        """The dispatcher's descriptor of a connection. Lent."""
        return self._fds[slot]

    def end(self, slots: Iterable[int]) -> None:
        """Close the descriptors of connections that have ended."""
        slots = list(slots)
        self._forget(slots)
        take = self._fds.pop
        fds = [take(slot) for slot in slots]
        fds.sort()
        close_all(fds)

    def _forget(self, slots: Iterable[int]) -> None:
        """Forget what was kept of these connections for their next workers."""
        words = self._words
        for slot in slots:
            start = slot * WORDS
            if (words[start + WRITTEN] | words[start + FINAL_END]) & OPEN:
                pages.forget(self._pages, slot)
        if self._handed:
            for slot in slots:
                self._handed.pop(slot, None)

    def _take(self, slot: int) -> int:
        """The descriptor of a connection that ends. Given."""
        self._forget([slot])
        return self._fds.pop(slot)

    def shut_down(self, slots: Iterable[int]) -> None:
        """Shut connections down that no worker can shut down any more, and close their descriptors."""
        slots = list(slots)
        for slot in slots:
            _shut_down(self._fds[slot])
        self.end(slots)

    def take_back(self, slot: int, read: bytes) -> None:
        """Prepare the slot of a connection that a living worker gives back.

        Args:
            slot: The slot.
            read: What the worker has read of the connection from BASE on.

        Raises:
            ProtocolError: The slot holds impossible values.
        """
        words = self._slot(slot)
        if not is_sane(words):
            raise ProtocolError("it gives back a connection with a slot of nonsense")
        if is_given(words):
            raise ProtocolError("it gives back a stream, and its application still has a message of it")
        self._count(Action.IDLE, words[WRITTEN])
        if read or not is_idle(words):
            decision = Decision(Action.IDLE, words[BASE], words[WRITTEN], attempt=words[ATTEMPT])
            if words[WRITTEN] & OPEN:
                # The worker did not die of the stream.
                decision = decision._replace(attempt=words[ATTEMPT] & CALLED_BEFORE, unsent=self._given_back(slot))
            prepare_slot(words, decision, read)
        self._remember(slot, read)

    def _given_back(self, slot: int) -> int:
        """How many bytes the next worker has to write first, of an open stream that a living worker gives back."""
        words = self._slot(slot)
        if not words[FINAL_END]:
            return 0
        facts = self._facts(words, self._fds[slot])
        unsent = self._unsent(slot, facts)
        if facts.open and (facts.wrote is None or facts.wrote + unsent != words[WRITTEN] & POSITION):
            raise ProtocolError("it gives back a stream in the middle of a message")
        return unsent

    def _count(self, action: Action, written: int) -> None:
        """Count a connection that another worker gets with this WRITTEN."""
        if written & OPEN:
            self.resumed += 1
        else:
            self.counts[action] += 1

    def outcomes(self) -> Counter[str]:
        """Count the connections of dead and retiring workers by what became of them, in words."""
        found: Counter[str] = Counter()
        for action in Action:
            found[action.value] = self.counts[action]
            if action is Action.IDLE:
                found["resumed"] = self.resumed
        return found

    def _slot(self, slot: int) -> memoryview:
        return slot_of(self._words, slot)

    def _remember(self, slot: int, read: bytes) -> None:
        """Keep bytes that are handed on with a connection, until the next worker has moved BASE beyond them."""
        if read:
            self._handed[slot] = self._words[slot * WORDS + BASE], read
        else:
            self._handed.pop(slot, None)

    def recover(self, slot: int, buffers: mmap.mmap | None) -> tuple[Action, bytes]:
        """Decide about a connection of a dead worker, and do what was decided.

        Args:
            slot: The slot.
            buffers: The dead worker's receive buffers.

        Returns:
            What was done; for IDLE and REPLAY also the bytes that the next worker has to be handed.
        """
        fd = self._fds[slot]
        words = self._slot(slot)
        base, handed = self._handed.get(slot, (0, b""))
        if base != words[BASE]:
            handed = b""  # the worker had moved BASE beyond them
        if is_idle(words) and not handed:
            self._count(Action.IDLE, words[WRITTEN])
            return Action.IDLE, b""
        facts = self._facts(words, fd)
        agreed = facts.read is None or agrees(words, facts.read, buffers)
        unsent = self._unsent(slot, facts) if words[FINAL_END] & OPEN else 0
        decision = decide(words, facts._replace(handed=len(handed), agreed=agreed, unsent=unsent), self.replay)
        if decision.action is Action.IDLE or decision.action is Action.REPLAY:
            return self._go_on(slot, decision, buffers, handed)
        action = decision.action
        if action is Action.RESTART and pages.kind_of(self._pages, slot) != pages.WEBSOCKET:
            action = Action.RESET  # the client of an event stream connects again by itself
        self.counts[action] += 1
        scope = self._log(slot, action, decision, begun(words, buffers) or handed)
        if action is Action.ANSWER:
            self._answer_502(slot, scope)
        elif decision.action is Action.RESTART:
            self._restart(slot)
        elif action is Action.RESET:
            reset(fd)
            self.end([slot])
        else:
            self.shut_down([slot])
        return action, b""

    def _go_on(
        self, slot: int, decision: Decision, buffers: mmap.mmap | None, handed: bytes
    ) -> tuple[Action, bytes]:
        """Prepare the slot of a connection that another worker gets."""
        words = self._slot(slot)
        read = bytes_to_hand(words, decision, buffers, handed)
        is_open = decision.written & OPEN
        if decision.action is Action.REPLAY and not is_open:
            self._log(slot, Action.REPLAY, decision, read)
        if not is_open and (words[FLAGS] & Flag.CALLED or words[WRITTEN] & OPEN):
            pages.forget(self._pages, slot)  # its stream has ended, or the worker died before the stream was open
        self._count(decision.action, decision.written)
        prepare_slot(words, decision, read)
        self._remember(slot, read)
        return decision.action, read

    def _log(self, slot: int, action: Action, decision: Decision, data: bytes) -> dict[str, Any]:
        """Log what is done with a connection, if its client may notice it; return its request.

        Args:
            slot: The slot.
            action: What is done.
            decision: The reason.
            data: The start of the request in progress.
        """
        if decision.action not in _LOGGED:
            return {}
        words = self._slot(slot)
        level, why = _LOGGED[decision.action]
        if (words[WRITTEN] | words[FINAL_END]) & OPEN:
            data = pages.load(self._pages, slot).head
            if decision.reason:
                why = _DURING_STREAM
            elif decision.action is Action.RESET:
                is_websocket = pages.kind_of(self._pages, slot) == pages.WEBSOCKET
                part = "a message" if is_websocket else "an event, or the events have no ids"
                why = f"its worker died in the middle of {part}"
        scope = scope_of(words, client_of(self._fds[slot]), data)
        log.log(level, "connection %d: %s: %s%s: %s", slot, action.value, why, decision.reason, named(scope))
        return scope

    def _facts(self, words: memoryview, fd: int) -> Facts:
        return facts_of(words, fd)

    def _unsent(self, slot: int, facts: Facts) -> int:
        """See `Facts`."""
        if facts.wrote is None:
            return 0
        data, end = pages.backlog(self._pages, slot, facts.wrote)
        return len(data) if end == self._slot(slot)[FINAL_END] & POSITION else 0

    def give_up(self, slot: int, read: bytes) -> None:
        """End a connection that waits for a worker, though none will come; a request in it gets a 502."""
        words = self._slot(slot)
        if words[WRITTEN] & OPEN:
            self._restart(slot)
            return
        if not read or words[FLAGS] & Flag.STREAM:
            self.end([slot])
            return
        scope = scope_of(words, client_of(self._fds[slot]), read)
        log.warning("connection %d: answered 502: no worker is left for the request: %s", slot, named(scope))
        self._answer_502(slot, scope)

    def _answer_502(self, slot: int, scope: dict[str, Any]) -> None:
        self.answered.append(scope)
        data = RESPONSE_502[: -len(REASON_502) or None] if scope["method"] == "HEAD" else RESPONSE_502
        self._lingering.end(self._take(slot), data)

    def _restart(self, slot: int) -> None:
        """Tell the client of an open WebSocket to connect again; that of an event stream does so after a reset."""
        words = self._slot(slot)
        has_unsent = words[FINAL_END] == words[WRITTEN]  # see `prepare_slot`
        if pages.kind_of(self._pages, slot) == pages.WEBSOCKET and not has_unsent:
            self._lingering.end(self._take(slot), _CLOSE_1012)
        else:
            reset(self._fds[slot])
            self.end([slot])

    def close(self) -> None:
        """Close every connection, and the slots."""
        self._lingering.close()
        self.end(list(self._fds))
        self._words.release()
        self._map.close()
        self.memory.close()
        self._pages.close()
        self.pages.close()


def _shut_down(fd: int) -> None:
    with borrowed(fd) as sock, contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
