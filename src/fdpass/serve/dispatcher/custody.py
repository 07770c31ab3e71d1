"""`Custody`: the dispatcher's own duplicate of each connection, and what it does with those of a dead worker.

This file reads the slot and the kernel's counters, `recovery` decides by them, and this file acts on the decision.
"""

from __future__ import annotations

import logging
import mmap
from collections.abc import Iterable
from typing import Any

from fdpass._linger import forget_linger
from fdpass._memory import mapped
from fdpass._message import close_all
from fdpass._supervision.loop import Loop
from fdpass.errors import ProtocolError
from fdpass.serve.dispatcher.byte_counts import ByteCounts
from fdpass.serve.dispatcher.handing_on import REPLAY_SIZE, HandedOn, bytes_to_hand
from fdpass.serve.dispatcher.kernel_counters import awaits_client, facts_of
from fdpass.serve.dispatcher.lasting import lasting
from fdpass.serve.dispatcher.lingering import Lingering, send_last
from fdpass.serve.dispatcher.lost_request import (
    REASON_502,
    RESPONSE_502,
    begun,
    client_of,
    log_outcome,
    named,
    scope_of,
)
from fdpass.serve.dispatcher.outcome_counts import OutcomeCounts
from fdpass.serve.dispatcher.outcome_texts import NO_WORKER_TEXT
from fdpass.serve.dispatcher.recovery import Action, Decision, Facts, agrees, decide, is_given, is_idle, is_sane
from fdpass.serve.keeper.estate import Estate, Head
from fdpass.serve.shared import pages
from fdpass.serve.shared.events import Event, about
from fdpass.serve.shared.reset import reset, shut_down
from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    CALLED_BEFORE,
    FINAL_BASE,
    FINAL_END,
    FLAGS,
    OPEN,
    POSITION,
    SLOT_SIZE,
    WORDS,
    WRITTEN,
    Flag,
    slot_of,
)  # fmt: skip

log = logging.getLogger("fdpass.serve")

_ZEROS = bytes(SLOT_SIZE)
_OPAQUE = int(Flag.OPAQUE)
_CLOSE_1012 = b"\x88\x02\x03\xf4"  # a close frame (RFC 6455, 5.5.1): service restart


class Custody:
    """All connections that workers have, and those that wait for a worker.

    Args:
        loop: Event loop; waits for clients to read their 502.
        estate: Has the descriptors. Lent.
        replay: As of ``--replay``.

    Attributes:
        memory: The slots; workers have this memory too. Owned.
        pages: The pages of open streams (see `shared.pages`), likewise.
        answered: The requests that were answered with a 502, as scopes of ASGI; for `take_answered`.
        counts: How often each thing was done with connections that workers had.
        lingering: Connections to which the dispatcher has sent the last bytes.
        handed_on: The bytes that were handed on with connections.
    """

    def __init__(self, loop: Loop, estate: Estate, replay: str) -> None:
        self.replay = replay
        self.counts = OutcomeCounts(estate)
        self.answered: list[dict[str, Any]] = []
        self.lingering = Lingering(loop)
        self._numbers = estate.numbers  # of each slot in use, the dispatcher's descriptor plus 1
        self.memory = lasting(estate, Head.SLOTS, SLOT_SIZE * estate.most, "fdpass-slots")
        self._map = mapped(self.memory)
        self._words = memoryview(self._map).cast("q")
        self._head = estate.head
        self._byte_counts = ByteCounts(self._words, estate.head[Head.RECEIVED], estate.head[Head.SENT])
        self.pages = lasting(estate, Head.PAGES, pages.PAGE_SIZE * estate.most, "fdpass-pages")
        self._pages = mapped(self.pages)
        self._replays = lasting(estate, Head.REPLAYS, REPLAY_SIZE * estate.most, "fdpass-replays")
        self._replays_map = mapped(self._replays)
        self.handed_on = HandedOn(estate, self._replays_map)

    def keep(self, slot: int, fd: int) -> None:
        """Keep the descriptor of a new connection, and clear its slot. The descriptor is given."""
        start = slot * SLOT_SIZE
        self._map[start : start + SLOT_SIZE] = _ZEROS
        self._numbers[slot] = fd + 1

    def fd(self, slot: int) -> int:
        """The dispatcher's descriptor of a connection. Lent."""
        return self._numbers[slot] - 1

    def end(self, slots: Iterable[int]) -> None:
        """Close the descriptors of connections that have ended.

        Raises:
            KeyError: A slot has none: its number, -1, would be the beginning of a range of all descriptors.
        """
        slots, numbers = list(slots), self._numbers
        self._forget(slots)
        fds = []
        for slot in slots:
            fds.append(numbers[slot] - 1)
            numbers[slot] = 0
        fds.sort()
        if fds and fds[0] < 0:
            raise KeyError(slots)
        close_all(fds)

    def bytes_so_far(self) -> tuple[int, int]:
        """Return the bytes received and sent on all connections; see `ByteCounts`."""
        return self._byte_counts.total(slot for slot, number in enumerate(self._numbers.tolist()) if number)

    def handed(self, slot: int) -> bytes:
        """The bytes that the next worker has to be handed with a connection whose slot is prepared."""
        return self.handed_on.handed(slot, self._slot(slot))

    def forget_used(self) -> None:
        """Forget the handed bytes that workers are done with; called now and then, as no message tells of it."""
        self.handed_on.forget_used(self._words)

    def _forget(self, slots: Iterable[int]) -> None:
        """Forget what was kept of these connections for their next workers, and count their bytes."""
        words, counts = self._words, self._byte_counts
        for slot in slots:
            start = slot * WORDS
            if words[start + FLAGS] & _OPAQUE and self._numbers[slot]:  # the application has had the socket
                forget_linger(self.fd(slot))
            written, end = words[start + WRITTEN], words[start + FINAL_END]
            if (written | end) & OPEN:
                counts.add(slot)
                pages.forget(self._pages, slot)
            else:  # as `ByteCounts.total` does, whose call would cost a short connection 2 %
                counts.received += words[start + (FINAL_BASE if end else BASE)]
                counts.sent += (end or written) & POSITION
        self._head[Head.RECEIVED], self._head[Head.SENT] = counts.received, counts.sent
        self.handed_on.forget(slots)

    def _take(self, slot: int) -> int:
        """The descriptor of a connection that ends. Given."""
        self._forget([slot])
        fd = self._numbers[slot] - 1
        self._numbers[slot] = 0
        return fd

    def shut_down(self, slots: Iterable[int]) -> None:
        """Shut connections down that no worker can shut down any more, and close their descriptors."""
        slots = list(slots)
        for slot in slots:
            shut_down(self.fd(slot))
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
        self.counts.add_handed_on(Action.IDLE, words[WRITTEN])
        if read or not is_idle(words):
            decision = Decision(Action.IDLE, words[BASE], words[WRITTEN], attempt=words[ATTEMPT])
            if words[WRITTEN] & OPEN:
                # The worker did not die of the stream.
                decision = decision._replace(attempt=words[ATTEMPT] & CALLED_BEFORE, unsent=self._given_back(slot))
            self.handed_on.prepare(slot, words, decision, read)
        else:
            self.handed_on.forget([slot])

    def _given_back(self, slot: int) -> int:
        """How many bytes the next worker has to write first, of an open stream that a living worker gives back."""
        words = self._slot(slot)
        if not words[FINAL_END]:
            return 0
        facts = self._facts(words, self.fd(slot))
        unsent = self._unsent(slot, facts)
        if facts.open and (facts.wrote is None or facts.wrote + unsent != words[WRITTEN] & POSITION):
            raise ProtocolError("it gives back a stream in the middle of a message")
        return unsent

    def _slot(self, slot: int) -> memoryview:
        return slot_of(self._words, slot)

    def recover(self, slot: int, buffers: mmap.mmap | None) -> tuple[Action, bytes]:
        """Decide about a connection of a dead worker, and do what was decided.

        Args:
            slot: The slot.
            buffers: The dead worker's receive buffers.

        Returns:
            What was done; for IDLE and REPLAY also the bytes that the next worker has to be handed.
        """
        fd, words = self.fd(slot), self._slot(slot)
        if self.handed_on.is_begun(slot):  # a dispatcher died while it did so
            return Action.REPLAY, self.handed_on.prepare_again(slot, words)
        handed = self.handed_on.handed(slot, words)
        if is_idle(words) and not handed:
            self.counts.add_handed_on(Action.IDLE, words[WRITTEN])
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
        self.counts.add(action)
        scope = self._log(slot, action, decision, begun(words, buffers) or handed)
        if action is Action.ANSWER:
            self._answer_502(slot, scope)
        elif decision.action is Action.RESTART:
            self._restart(slot)
        elif action is Action.RESET:
            reset(fd)
            self.end([slot])
        elif action is Action.FINISH and awaits_client(fd):
            # The last bytes were sent by the worker, or by a dispatcher that died then: a close(2) while bytes are
            # unread could take them from the client.
            self.lingering.add(self._take(slot))
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
        self.counts.add_handed_on(decision.action, decision.written)
        self.handed_on.prepare(slot, words, decision, read)
        return decision.action, read

    def _log(self, slot: int, action: Action, decision: Decision, data: bytes) -> dict[str, Any]:
        """See `log_outcome`, with the start of the request in progress."""
        words, fd = self._slot(slot), self.fd(slot)
        return log_outcome(slot, words, fd, memory=self._pages, action=action, decision=decision, data=data)

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
        scope = scope_of(words, client_of(self.fd(slot)), read)
        extra = about(Event.CONNECTION_ANSWERED, connection=slot)
        log.warning(NO_WORKER_TEXT, slot, named(scope), extra=extra)
        self._answer_502(slot, scope)

    def _answer_502(self, slot: int, scope: dict[str, Any]) -> None:
        self.answered.append(scope)
        data = RESPONSE_502[: -len(REASON_502) or None] if scope["method"] == "HEAD" else RESPONSE_502
        self._end_with(slot, data)

    def _restart(self, slot: int) -> None:
        """Tell the client of an open WebSocket to connect again; that of an event stream does so after a reset."""
        words = self._slot(slot)
        has_unsent = words[FINAL_END] == words[WRITTEN]  # see `prepare_slot`
        if pages.kind_of(self._pages, slot) == pages.WEBSOCKET and not has_unsent:
            self._end_with(slot, _CLOSE_1012)
        else:
            reset(self.fd(slot))
            self.end([slot])

    def _end_with(self, slot: int, data: bytes) -> None:
        """Send the last bytes of a connection, and let it linger.

        If the dispatcher dies before it has sent them, the next one finds the connection as it is now.
        """
        send_last(self.fd(slot), data)
        self.lingering.add(self._take(slot))

    def close(self) -> None:
        """Close every connection, and the slots."""
        self.lingering.close()
        self.end([slot for slot, number in enumerate(self._numbers.tolist()) if number])
        self._words.release()
        self._map.close()
        self.memory.close()
        self._pages.close()
        self.pages.close()
        self._replays_map.close()
        self._replays.close()
