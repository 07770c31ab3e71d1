"""What a worker reports of its connections to the dispatcher: which have ended, and which it gives back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque

from fdpass._conversation import Conversation
from fdpass.serve.shared import messages
from fdpass.serve.shared.ledger import Ledger
from fdpass.serve.worker.passed_socket import PassedSocket

_RETRY_SECONDS = 0.005  # after the channel had no room
_BATCH = 128  # slots that are sent at once, so that the dispatcher can begin while the worker closes others


class Reports:
    """All reports of one worker.

    The end of a connection goes into the ring of the ledger, which costs no message. Everything else goes into
    messages, in batches.

    Args:
        channel: To the dispatcher. Lent.
        ledger: Lent.
        row: Of the worker, in the ledger.
        custody: The dispatcher has a duplicate of each connection.
    """

    def __init__(self, channel: Conversation, ledger: Ledger, row: int, *, custody: bool) -> None:
        self._channel = channel
        self._ledger = ledger
        self._row = row
        self._custody = custody
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._slots: dict[bytes, list[int]] = {messages.FINISHED: [], messages.RETURNED: []}
        self._moved: deque[PassedSocket] = deque()
        self._flush_due = self._retry_due = False

    def closed(self, passed: PassedSocket) -> None:
        """Report that this worker has closed the socket of a connection. From any thread."""
        if threading.get_ident() != self._thread:
            with contextlib.suppress(RuntimeError):  # the loop is closed: what the dispatcher needs has been sent
                self._loop.call_soon_threadsafe(self.closed, passed)
        elif passed.returned and passed.read:
            self._moved.append(passed)
            self.flush()
        elif passed.returned:
            self._add(messages.RETURNED, passed.slot)
            passed.on_returned()
        elif self._custody and not passed.shut:
            self._add(messages.FINISHED, passed.slot)  # the dispatcher has to shut the connection down, at once
        elif not self._ledger.note(self._row, passed.slot):
            self._add(messages.FINISHED, passed.slot)

    def _add(self, word: bytes, slot: int) -> None:
        slots = self._slots[word]
        slots.append(slot)
        if len(slots) == _BATCH:
            self.flush()
        elif not self._flush_due:
            self._flush_due = True
            with contextlib.suppress(RuntimeError):  # see `closed`
                self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send all that is not sent yet; if the channel has no room for it, try again in a moment."""
        self._flush_due = False
        if not self._send_all() and not self._retry_due:
            with contextlib.suppress(RuntimeError):  # see `closed`
                self._loop.call_later(_RETRY_SECONDS, self._retry)
                self._retry_due = True

    def _retry(self) -> None:
        self._retry_due = False
        self.flush()

    def _send_all(self) -> bool:
        send = self._channel.out.send_now
        while self._moved:
            if not send(messages.moved(self._moved[0].slot, self._moved[0].read), ()):
                return False
            self._moved.popleft().on_returned()
        for word, slots in self._slots.items():
            while slots:
                batch = slots[: messages.MOST_SLOTS]
                if not send(messages.with_slots(word, batch), ()):
                    return False
                del slots[: len(batch)]
        return True
