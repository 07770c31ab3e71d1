"""What a worker reports of its connections to the dispatcher: which have ended, and which it gives back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from fdpass._conversation import Conversation
from fdpass.serve.shared import messages
from fdpass.serve.shared.ledger import EPOCH, Holder, Ledger
from fdpass.serve.worker.passed_socket import PassedSocket, do_nothing

_RETRY_SECONDS = 0.005  # after the channel had no room
_KEEP_SECONDS = 0.02  # between two looks at whether a dispatcher holds the connections that were given back
_BATCH = 128  # slots that are sent at once, so that the dispatcher can begin while the worker closes others


class _Kept(NamedTuple):
    """A connection that was given back, and the buffer that still has what was read of it.

    Attributes:
        slot: The slot of the connection.
        holder: HOLDER, as this worker has stored it.
        on_returned: Gives the buffer back.
    """

    slot: int
    holder: int
    on_returned: Callable[[], None]


class Reports:
    """All reports of one worker.

    The end of a connection goes into the ring of the ledger, which costs no message. Everything else goes into
    messages, in batches. HOLDER of a connection is stored before the connection is reported: see `keeper.estate`.

    Args:
        channel: To the dispatcher. Lent.
        ledger: Lent.
        row: Of the worker, in the ledger.
        custody: The dispatcher has a duplicate of each connection.

    Attributes:
        taken: HOLDER of the connections that this worker takes now.
    """

    def __init__(self, channel: Conversation, ledger: Ledger, row: int, *, custody: bool) -> None:
        self._channel = channel
        self._ledger = ledger
        self._row = row
        self._holders = ledger.holders
        self._epoch = 0
        self.taken = int(Holder.TAKEN)
        self._custody = custody
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._slots: dict[bytes, list[int]] = {messages.FINISHED: [], messages.RETURNED: []}
        self._moved: deque[PassedSocket] = deque()
        self._kept: list[_Kept] = []
        self._release_due = False
        self._flush_due = self._retry_due = False
        self._on_flushed: Callable[[], None] | None = None

    def mark(self, slot: int, holder: Holder) -> None:
        """Store what this worker has done with a connection, before it reports that."""
        self._holders[slot] = holder + self._epoch

    def synchronize(self, serial: int, then: Callable[[], None]) -> None:
        """A new dispatcher reads the reports: send all that wait, change the epoch, and call ``then``.

        Args:
            serial: The serial number of the dispatcher.
            then: Sends SYNCED.
        """

        def change_epoch() -> None:
            self._epoch = EPOCH * serial
            self.taken = Holder.TAKEN + self._epoch
            then()

        self._on_flushed = change_epoch
        self.flush()

    def closed(self, passed: PassedSocket) -> None:
        """Report that this worker has closed the socket of a connection. From any thread."""
        if threading.get_ident() != self._thread:
            with contextlib.suppress(RuntimeError):  # the loop is closed: what the dispatcher needs has been sent
                self._loop.call_soon_threadsafe(self.closed, passed)
        elif passed.returned and passed.read:
            self.mark(passed.slot, Holder.RETURNED)
            self._moved.append(passed)
            self.flush()
        elif passed.returned:
            self.mark(passed.slot, Holder.RETURNED)
            self._add(messages.RETURNED, passed.slot)
            self._keep(passed)
        elif self._custody and not passed.shut:
            self.mark(passed.slot, Holder.UNSHUT)
            self._add(messages.FINISHED, passed.slot)  # the dispatcher has to shut the connection down, at once
        else:
            self.mark(passed.slot, Holder.ENDED)
            if not self._ledger.note(self._row, passed.slot):
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

    def _keep(self, passed: PassedSocket) -> None:
        """Let the shared buffer keep what was read of a connection, until a dispatcher holds the connection.

        A dispatcher that dies with the message that it has just read takes the only other copy with it.
        """
        if passed.on_returned is not do_nothing:
            slot = passed.slot
            self._kept.append(_Kept(slot, self._holders[slot], passed.on_returned))
            self._release_later()

    def _release_later(self) -> None:
        if not self._release_due:
            with contextlib.suppress(RuntimeError):  # see `closed`
                self._loop.call_later(_KEEP_SECONDS, self._release)
                self._release_due = True

    def _release(self) -> None:
        """Give back the buffers of connections that a dispatcher holds: it has changed HOLDER."""
        self._release_due = False
        kept, self._kept = self._kept, []
        for one in kept:
            if self._holders[one.slot] == one.holder:
                self._kept.append(one)
            else:
                one.on_returned()
        if self._kept:
            self._release_later()

    def flush(self) -> None:
        """Send all that is not sent yet; if the channel has no room for it, try again in a moment."""
        self._flush_due = False
        if self._send_all():
            on_flushed, self._on_flushed = self._on_flushed, None
            if on_flushed is not None:
                on_flushed()
        elif not self._retry_due:
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
            self._keep(self._moved.popleft())
        for word, slots in self._slots.items():
            while slots:
                batch = slots[: messages.MOST_SLOTS]
                if not send(messages.with_slots(word, batch), ()):
                    return False
                del slots[: len(batch)]
        return True
