"""What a worker tells the dispatcher of its connections: which have ended, and which it gives back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque

from fdpass._conversation import Conversation
from fdpass.serve.shared import messages
from fdpass.serve.shared.ledger import Ledger
from fdpass.serve.worker.passed_socket import PassedSocket

_AGAIN_SECONDS = 0.005  # until the channel is tried again
_AT_ONCE = 128  # slots: the dispatcher can begin with them while others are closed


class Reports:
    """All reports of one worker.

    An end goes into the ring of the ledger, which costs no message; what needs a message is sent in batches.

    Args:
        talk: The channel. Lent.
        ledger: Lent.
        row: Of the worker, in the ledger.
        custody: The dispatcher has a duplicate of each connection.
    """

    def __init__(self, talk: Conversation, ledger: Ledger, row: int, *, custody: bool) -> None:
        self._talk = talk
        self._ledger = ledger
        self._row = row
        self._custody = custody
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._slots: dict[bytes, list[int]] = {messages.FINISHED: [], messages.RETURNED: []}
        self._moved: deque[PassedSocket] = deque()
        self._armed = self._waiting = False

    def closed(self, passed: PassedSocket) -> None:
        """A connection's socket was closed here. From any thread."""
        if threading.get_ident() != self._thread:
            with contextlib.suppress(RuntimeError):  # the loop is closed: all that counts was reported
                self._loop.call_soon_threadsafe(self.closed, passed)
        elif passed.returned and passed.read:
            self._moved.append(passed)
            self.flush()
        elif passed.returned:
            self._report(messages.RETURNED, passed.slot)
            passed.let_go()
        elif self._custody and not passed.shut:
            self._report(messages.FINISHED, passed.slot)  # the dispatcher has to shut it down, without delay
        elif not self._ledger.note(self._row, passed.slot):
            self._report(messages.FINISHED, passed.slot)

    def _report(self, word: bytes, slot: int) -> None:
        slots = self._slots[word]
        slots.append(slot)
        if len(slots) == _AT_ONCE:
            self.flush()
        elif not self._armed:
            self._armed = True
            with contextlib.suppress(RuntimeError):  # see `closed`
                self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what waits; again in a moment, if there is no room in the channel for all of it."""
        self._armed = False
        if not self._flushed() and not self._waiting:
            with contextlib.suppress(RuntimeError):  # see `closed`
                self._loop.call_later(_AGAIN_SECONDS, self._try_again)
                self._waiting = True

    def _try_again(self) -> None:
        self._waiting = False
        self.flush()

    def _flushed(self) -> bool:
        send = self._talk.out.send_now
        while self._moved:
            if not send(messages.moved(self._moved[0].slot, self._moved[0].read), ()):
                return False
            self._moved.popleft().let_go()
        for word, slots in self._slots.items():
            while slots:
                some = slots[: messages.MOST_SLOTS]
                if not send(messages.with_slots(word, some), ()):
                    return False
                del slots[: len(some)]
        return True
