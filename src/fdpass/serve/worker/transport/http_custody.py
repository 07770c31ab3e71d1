"""`HttpCustody`: the transport of `HttpProtocol` for a connection in custody.

It reads into a buffer that the dispatcher can read, too, gives the protocol one request at a time, and keeps the
slot true: `slots` has the order of stores, and `recovery` their use.
"""

from __future__ import annotations

from typing import Any

from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    BUFFER,
    CALLED_BEFORE,
    CALLED_BY_METHOD,
    CONTINUE,
    FINAL_BASE,
    FINAL_END,
    FLAGS,
    POSITION,
    WRITTEN,
    Flag,
)
from fdpass.serve.worker.custody.buffers import Buffers
from fdpass.serve.worker.custody.reader import NOWHERE, Reader
from fdpass.serve.worker.custody.request_end import RequestEnd
from fdpass.serve.worker.http.wire import EXTENSIONS
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.poller import Poller
from fdpass.serve.worker.transport.base import NOW, Transport
from fdpass.serve.worker.transport.http import HttpTransport
from fdpass.serve.worker.transport.in_custody import InCustody

_CALLED, _OPAQUE, _CLOSING, _OVERFLOW = map(int, (Flag.CALLED, Flag.OPAQUE, Flag.CLOSING, Flag.OVERFLOW))
_WRITING, _INTERIM = int(Flag.WRITING), int(Flag.INTERIM)

# Called by names of their own: Python 3.11 is slow to look up what an imported class or dict has.
_flags_of = CALLED_BY_METHOD.get
_init, _let_go = InCustody.__init__, InCustody._let_go  # noqa: SLF001 - of the base class
_respond, _write = HttpTransport.respond, Transport.write


class HttpCustody(InCustody):
    """A connection in custody.

    Args:
        poller: Watches the connection.
        passed: Its socket. Given.
        words: Its slot.
        buffers: Of this worker.
        scratch: Memory to read into when no buffer is free.

    Attributes:
        words, extensions: See above, and `Wire`.
    """

    __slots__ = (
        "_about", "_answered", "_attempt", "_begun", "_fed", "_held", "_leaving", "_live", "_paused",
        "_request_end", "extensions",
    )  # fmt: skip

    def __init__(
        self, poller: Poller, passed: PassedSocket, words: memoryview, buffers: Buffers, scratch: memoryview
    ) -> None:
        reader = Reader(words, buffers, scratch, passed.is_unix)
        _init(self, poller, passed, words, reader, words[WRITTEN] & POSITION)
        self._request_end = RequestEnd()
        self._fed = reader.read  # the position up to which the protocol was given bytes
        self._held = passed.read  # bytes behind the request in progress
        self._begun = False  # bytes of a request have come
        self._answered = False  # the response is complete, but not yet committed to the slot
        self._attempt: int = words[ATTEMPT]  # which the dispatcher stores only while no worker has the slot
        self.extensions = EXTENSIONS.copy()
        self.extensions["fdpass"] = {"attempt": 0, "slot": passed.slot}
        self._paused = self._leaving = False  # the protocol has paused reading; the worker retires

    def _first(self) -> None:
        (self._replay if self._held else self._read)()

    # What comes

    def _read(self) -> None:
        try:
            data = self._reader.receive(self.passed)
        except OSError as error:
            self._read_nothing()
            if not isinstance(error, BlockingIOError):
                self._end(error)
            return
        if self._begun or self._answered:
            self._take(data)
        elif data:
            self._begun = True
            before, self._fed = self._fed, self._reader.read
            if not self._protocol.known_received(data):  # else it ends where `RequestEnd` would find its end
                self._begun, self._fed = False, before
                self._feed(data)
        else:
            self._read_nothing()
            self._eof()

    def _read_nothing(self) -> None:
        if self.idle:
            self._reader.release()
            self.words[FLAGS] &= ~_OVERFLOW  # there may have been no buffer

    def _replay(self) -> None:
        """Put the bytes that came with the connection into a buffer, and give them to the protocol."""
        data, self._held = self._held, b""
        self._reader.begin(data)
        self._reader.read += len(data)
        self._feed(data)

    def _take(self, data: bytes) -> None:
        if not data:
            self._eof()
        elif self._held or (self._answered and self._request_end.complete):
            self._hold(data)
            self.settle()
        else:
            self._feed(data)

    def _hold(self, data: bytes) -> None:
        self._held += data
        Transport.read_no_more(self)

    def _feed(self, data: bytes) -> None:
        if self._begun and self._request_end.complete:
            self._hold(data)  # the next request: where this one's response ends is to be known first
            return
        self._begun = True
        used = self._request_end.feed(data)
        if self._request_end.opaque:
            self.words[FLAGS] |= _OPAQUE
        self._fed += used
        if used < len(data):
            self._hold(data[used:])
        if self._request_end.blank:  # only empty lines: no other worker needs to see them
            self._begun = False
            self.words[BASE] = self._fed
            self.words[ATTEMPT] = self._attempt = 0
            self._read_nothing()
        self._protocol.data_received(data[:used])
        if self._answered:  # early; the rest of the request may have come now
            self.words[FINAL_BASE] = self._fed
            self.settle()

    def pause_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        self._paused = True
        Transport.pause_reading(self)

    def read_no_more(self) -> None:
        """See `Wire`."""
        self._paused = True
        Transport.read_no_more(self)

    def resume_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        self._paused = False
        if not self._held:
            Transport.resume_reading(self)

    # The response

    def called(self, scope: dict[str, Any]) -> None:
        """See `Wire`."""
        words = self.words
        if self._attempt:
            scope["extensions"]["fdpass"] = {"attempt": self._attempt % CALLED_BEFORE, "slot": self.passed.slot}
        if self._answered or not self._begun:  # the parser has found a request where `RequestEnd` found none
            self._request_end.opaque = True
            words[FLAGS] |= _OPAQUE
            if self._answered:
                self._commit()
            self._begun = True
        words[FLAGS] |= _flags_of(scope["method"], _CALLED)

    def write(self, data: Any, flags: int = NOW) -> None:
        """See `asyncio.WriteTransport`; with flags of send(2)."""
        if data is CONTINUE:
            self.words[FLAGS] |= _INTERIM
        if self._marks:
            self._write_marked(data, flags)
        else:
            _write(self, data, flags)

    def send_file(self, number: int, offset: int, count: int) -> int:
        """See `Wire`."""
        if self._marks:
            self.words[FLAGS] |= _WRITING
        sent = super().send_file(number, offset, count)
        if self._marks and not self._backlog:
            self._mark()
        return sent

    def announce(self, count: int, *, last: bool) -> None:
        """See `Wire`."""
        words = self.words
        if last:
            words[FLAGS] |= _CLOSING
        elif not self._request_end.complete:
            words[FLAGS] |= _OPAQUE  # answered before its end: only this worker knows whose the rest is
        words[FINAL_BASE] = self._fed
        words[FINAL_END] = self._wrote + count

    def respond(self, data: bytes, last: bool) -> None:
        """See `Wire`."""
        if self._ending:
            return  # the client has gone
        self._answered = True
        if last:
            self._lingers |= bool(self._held)
            self.announce(len(data), last=True)
            _respond(self, data, True)
            return
        words = self.words
        if not self._request_end.complete:
            words[FLAGS] |= _OPAQUE  # see `announce`
        words[FINAL_BASE] = self._fed
        words[FINAL_END] = self._wrote + len(data)
        if self._marks:
            self._write_marked(data, NOW)
        else:
            _write(self, data)
        if not (self._backlog or self._closing):
            self._commit()

    def _drained(self) -> None:
        super()._drained()
        self.settle()

    def settle(self) -> None:
        """End the request if the kernel has its whole response; then the next request may begin."""
        if self._answered and not (self._backlog or self._closing):
            self._commit()

    def _commit(self) -> None:
        words, request_end, held = self.words, self._request_end, self._held
        if request_end.opaque:
            words[WRITTEN] = self._wrote
            words[FINAL_END] = 0
            words[FLAGS] = _OPAQUE  # and no more CALLED
            words[ATTEMPT] = self._attempt = 0
        elif request_end.complete:
            # Bytes of the next request that found no buffer must not look as if there were none.
            words[FLAGS] = _OVERFLOW if held and not words[BUFFER] else 0
            if self._attempt:
                words[ATTEMPT] = self._attempt = 0
            words[BASE] = self._fed
            words[WRITTEN] = self._wrote
            words[FINAL_END] = 0
            if not held:
                self._reader.release()
        else:
            return  # the rest of the request has to come first
        self._answered = self._begun = False
        if held:
            self._poller.loop.call_soon(self._go_on)
        elif self._leaving:
            self._protocol.retire()

    def _go_on(self) -> None:
        """Give the protocol the bytes that were held back."""
        data, self._held = self._held, b""
        if data and not self._closing:
            self._feed(data)
            if not self._held and not self._paused:
                Transport.resume_reading(self)
            if self._leaving and self.idle:
                self._protocol.retire()

    # The end

    @property
    def idle(self) -> bool:
        """No request is in progress, and no byte of a next one has come."""
        return not (self._begun or self._answered or self._held or self._closing)

    @property
    def quiet(self) -> bool:
        """See `Transport.quiet`."""
        return not (self._backlog or self._held)

    def leave(self) -> bool:
        """See `Wire`."""
        self._leaving = True
        if self.idle:
            if self._request_end.opaque:
                return False
            self._reader.release()
            self.passed.returned = True  # bytes that come wait in the kernel
            self.passed.read = b""
            self._end(None)
        return True

    def hand_over(self, websockets: Any, protocol: Any, handshake: bytes) -> bool:
        """See `Wire`. If it is not certain where the handshake ends, the connection leaves custody."""
        if self._request_end.opaque or not self._request_end.complete or self._answered or self._closing:
            return False
        self._ending = self._closing = True
        self._watch(0)
        words, self.words = self.words, NOWHERE
        self._protocol = None
        wrote = self._wrote
        websockets.open(self.passed, words, self._reader, wrote=wrote, protocol=protocol, handshake=handshake)
        return True

    def set_protocol(self, protocol: Any) -> None:
        """See `asyncio.BaseTransport`: another protocol, WebSocket, has the connection from now on."""
        self.words[FLAGS] |= _OPAQUE
        super().set_protocol(protocol)
        self.__class__ = _Upgraded
        self._let_go()

    def _let_go(self) -> None:
        self._answered = False
        _let_go(self)


class _Upgraded(HttpCustody):
    """What the transport becomes once another protocol has the connection: none of it is in custody any more."""

    __slots__ = ()
    _read, write = Transport._read, Transport.write  # noqa: SLF001 - of a base class
    pause_reading, resume_reading = Transport.pause_reading, Transport.resume_reading
