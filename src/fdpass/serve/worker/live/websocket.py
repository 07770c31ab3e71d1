"""`LiveWebSocket`: the transport of an open WebSocket that another worker can continue.

It knows where the client's messages end, and reads them into a buffer that the dispatcher has, too. uvicorn's
class speaks the protocol. It gives each frame to `write` whole, sometimes several at once.
"""

from __future__ import annotations

from typing import Any

from fdpass.serve.shared import pages
from fdpass.serve.shared.slots import (
    ATTEMPT,
    BUFFER_SIZE,
    CALLED_BEFORE,
    FINAL_BASE,
    FINAL_END,
    FLAGS,
    OPEN,
    WRITTEN,
    Flag,
)
from fdpass.serve.worker.custody.reader import NOWHERE
from fdpass.serve.worker.custody.state import store_state
from fdpass.serve.worker.live.delivery import Delivery
from fdpass.serve.worker.live.frames import ends_with_close
from fdpass.serve.worker.transport.base import NOW, Transport

_CLOSING, _OVERFLOW = int(Flag.CLOSING), int(Flag.OVERFLOW)
_CONTROL = 8  # bit of a frame's first byte: a control frame
_AHEAD_MAX = BUFFER_SIZE // 2  # bytes of a buffer, behind which what is still needed moves into another one


class LiveWebSocket(Delivery):
    """The transport of uvicorn's class, once the WebSocket is open. Before that it is a class of `opening`."""

    __slots__ = ()
    is_resumable = True

    # What comes

    def _read(self) -> None:
        reader = self._reader
        if reader.read != self._base:
            self._make_room()
        try:
            data = reader.receive(self.passed)
        except OSError as error:
            self._read_nothing()
            if not isinstance(error, BlockingIOError):
                self._end(error)
            return
        if not data:
            self._read_nothing()
            self._eof()
            return
        self._frames.feed(data, reader.read)
        self._protocol.data_received(data)
        if not (self._ends or self._undone):
            self._poller.loop.call_soon(self._pass_border)  # see `_take`

    def _take(self, data: bytes) -> None:
        """Give uvicorn's class what another worker had read."""
        self._frames.feed(data, self._reader.read)
        self._protocol.data_received(data)
        if not (self._ends or self._undone):
            # Control frames alone, or part of a message; later, for one of uvicorn's classes answers in a task.
            self._poller.loop.call_soon(self._pass_border)

    def _go_on(self) -> None:
        """The WebSocket is open: read, first what another worker had read."""
        if self._ending:
            return
        Transport.resume_reading(self)
        data, self.passed.read = self.passed.read, b""
        if data:
            self._reader.begin(data)
            self._reader.read += len(data)
            self._take(data)
        if self._websockets.retiring:
            self.move_if_settled()

    def outlived(self) -> None:
        """Its worker has lived with it for half a second."""
        if self.words[ATTEMPT] < CALLED_BEFORE:
            self.words[ATTEMPT] = 0

    def _pass_border(self) -> None:
        if not (self._ends or self._undone or self._ending):
            self._advance()

    def _make_room(self) -> None:
        """Before a buffer is full, move what is still needed to the start of another one."""
        reader, needed = self._reader, self._reader.read - self._base
        if needed <= _AHEAD_MAX < reader.used and not self.words[FLAGS] & _OVERFLOW:
            reader.exchange(reader.since(self._base))

    # What goes

    def write(self, data: Any, flags: int = NOW) -> None:
        """See `asyncio.WriteTransport`: one whole frame, or several."""
        if self._closing or not data:
            return
        words = self.words
        if self._next is None and not (data[0] & _CONTROL or self._backlog or self._marks):  # most, for less
            size = len(data)
            words[FINAL_BASE] = self._base
            words[FINAL_END] = end = self._wrote + size | OPEN | self._second
            try:
                sent = self.passed.send(data, flags)
            except OSError:
                sent = 0  # `Transport.write` will find out why
            self._wrote += sent
            if sent == size:
                words[WRITTEN] = end
                words[FINAL_END] = 0
            else:
                Transport.write(self, data[sent:], flags)
                self._written()
            return
        if data[0] & _CONTROL and ends_with_close(data):
            words[FLAGS] |= _CLOSING
        base, is_commit = self._base, self._next is not None and not data[0] & _CONTROL
        if self._next is not None and is_commit:
            (state,), self._next = self._next, None
            base = self._given
            if state is not None:
                self._second = store_state(words, state)
        self._announce(base, self._wrote + len(data))
        self._write_marked(data, flags)
        (self._committed if is_commit else self._written)()

    def _announce(self, base: int, position: int) -> None:
        words = self.words
        if self._backlog:
            pages.drop_backlog(self._websockets.pages, self.passed.slot)
        words[FINAL_BASE] = base
        words[FINAL_END] = position | OPEN | self._second

    def _written(self) -> None:
        words = self.words
        # Even if the kernel has not all of it: what the application has sent must not be lost without a sign.
        words[WRITTEN] = words[FINAL_END]
        if self._backlog:
            start = self._wrote - len(self._backlog)
            pages.keep_backlog(self._websockets.pages, self.passed.slot, start, self._backlog)
        elif not words[FLAGS] & _CLOSING:
            words[FINAL_END] = 0

    def _drained(self) -> None:
        super()._drained()
        if self.words[WRITTEN] & OPEN:
            if not self.words[FLAGS] & _CLOSING:
                self.words[FINAL_END] = 0
            pages.drop_backlog(self._websockets.pages, self.passed.slot)
        # Sends that have waited for the client go on before this: what they write must not be lost by a move.
        self._drains = True
        self._poller.loop.call_soon(self._has_drained)

    def _has_drained(self) -> None:
        self._drains = False
        if self._websockets.retiring:
            self.move_if_settled()

    # Its end here

    def move_if_settled(self) -> None:
        """Let another worker continue it, if the application is done with what it was given, and all is sent."""
        words, reader = self.words, self._reader
        if (
            self._undone or self._drains or self._holds or self._closing or self._backlog
            or (self._greets and not self._websockets.late)
            or self._next is not None or self.passed.read or words[FLAGS] & (_CLOSING | _OVERFLOW)
            or not reader.has(self._base)
        ):  # fmt: skip
            return
        self.passed.returned = self._moved = self._about["moved"] = True
        self.passed.read = reader.since(self._base)
        self.passed.on_returned = reader.forget  # until a dispatcher has it, the buffer has what was read
        self.words = NOWHERE
        if self._stop():
            self._over(None)  # at once, so that no send can be lost: it raises from now on

    def _over(self, error: Exception | None) -> None:
        self._websockets.forget(self)
        super()._over(error)
