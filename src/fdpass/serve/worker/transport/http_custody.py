"""`HttpCustody`: an HTTP connection in custody, as the transport of the engine's protocol.

It reads into a buffer that the dispatcher has too, feeds one request at a time to the engine's protocol, sends
what belongs together in one write, and keeps the slot true: `slots` says in which order, `recovery` what for.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    BUFFER,
    CALLED_BEFORE,
    CALLED_BY_METHOD,
    FINAL_BASE,
    FINAL_END,
    FLAGS,
    WRITTEN,
    Flag,
)
from fdpass.serve.worker.custody.reader import NOWHERE, Reader
from fdpass.serve.worker.custody.request_end import RequestEnd
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.transport.coalescing import Coalescing
from fdpass.serve.worker.transport.http_engine import HttpEngine

_CALLED, _OPAQUE, _CLOSING, _OVERFLOW = map(int, (Flag.CALLED, Flag.OPAQUE, Flag.CLOSING, Flag.OVERFLOW))


class HttpCustody(Coalescing):
    """A connection in custody.

    Args:
        engine: Who serves it.
        passed: Its socket. Given.
        words: Its slot.

    Attributes:
        returned: It was given back to the dispatcher.
    """

    __slots__ = (
        "_begun",
        "_border",
        "_done",
        "_ends_by_close",
        "_engine",
        "_fed",
        "_held",
        "_intake",
        "_leaving",
        "_paused",
        "_responded",
        "_sender",
        "_upgraded",
        "returned",
    )

    def __init__(self, engine: HttpEngine, passed: PassedSocket, words: memoryview) -> None:
        super().__init__(engine.poller, passed, words)
        self._engine = engine
        self._intake = Reader(words, engine.buffers, engine.scratch, marks=self._marks)
        self._border = RequestEnd()
        self._fed: int = words[BASE]  # the position up to which the engine has been fed
        self._held = passed.read  # bytes behind the request in progress
        self._begun = False  # bytes of a request are there
        self._sender: Any = None  # the engine's `send`, from the application's call to the end of the response
        self._ends_by_close = False  # the end of the response may be told by that of the connection alone
        self._done = False  # its response is complete, but BASE does not say so yet
        self._paused = False  # by the engine
        self._upgraded = False  # another protocol has it
        self._leaving = self.returned = False
        self._responded: Any = None  # of the engine's protocol

    def start(self, protocol: Any) -> None:
        """Connect it with the engine's protocol, and go on with what was read of it, or is there to be read."""
        protocol.app = self.call  # the application, called for this connection
        self._responded = protocol.on_response_complete
        protocol.on_response_complete = self._respond
        super().start(protocol)

    def _first(self) -> None:
        (self._replay if self._held else self._read)()

    # What comes

    def _read(self) -> None:
        if self._upgraded:
            super()._read()
            return
        try:
            data = self._intake.receive(self.passed)
        except OSError as error:
            self._read_nothing()
            if not isinstance(error, BlockingIOError):
                self._end(error)
            return
        if self._begun or self._done:
            self._take(data)
        elif self._border.is_whole(data):  # what `_feed` comes to, with less ado
            self._begun = True
            self._fed += len(data)
            self._protocol.data_received(data)
        elif data:
            self._feed(data)
        else:
            self._read_nothing()
            self._eof()

    def _read_nothing(self) -> None:
        if self.idle:
            self._intake.release()
            self.words[FLAGS] &= ~_OVERFLOW  # there may have been no buffer

    def _replay(self) -> None:
        """Bytes came with the connection: into a buffer with them, and on."""
        data, self._held = self._held, b""
        self._intake.begin(data)
        self._intake.read += len(data)
        self._feed(data)

    def _take(self, data: bytes) -> None:
        if not data:
            self._eof()
        elif self._held or (self._done and self._border.complete):
            self._hold(data)
            self.settle()
        else:
            self._feed(data)

    def _hold(self, data: bytes) -> None:
        """The request in progress has to end first."""
        self._held += data
        self.read_no_more()

    def _feed(self, data: bytes) -> None:
        if self._begun and self._border.complete:
            self._hold(data)  # the next request: where this one's response ends is to be known first
            return
        self._begun = True
        used = self._border.feed(data)
        if self._border.opaque:
            self.words[FLAGS] |= _OPAQUE
        self._fed += used
        if used < len(data):
            self._hold(data[used:])
        self._protocol.data_received(data[:used])
        if self._done:
            self.settle()  # it was answered early: the rest of it may have come now

    def pause_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        self._paused = True
        super().pause_reading()

    def resume_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        self._paused = False
        if not self._held:
            super().resume_reading()

    # The application

    def call(self, scope: Any, receive: Any, send: Any) -> Any:
        """The application, for an HTTP request on this connection."""
        words, engine = self.words, self._engine
        about = {"attempt": words[ATTEMPT] % CALLED_BEFORE, "slot": self.passed.slot}
        scope["extensions"] = {**scope.get("extensions", {}), "fdpass": about}
        if self._done or not self._begun:  # the engine sees a request where `RequestEnd` saw none
            self._border.opaque = True
            words[FLAGS] |= _OPAQUE
            if self._done:
                self._commit()
            self._begun = True
        words[FLAGS] |= CALLED_BY_METHOD.get(scope["method"], _CALLED)
        self._sender = send
        self._ends_by_close = scope["http_version"] == "1.0"
        engine.tally.begun += 1
        return engine.app(scope, receive, partial(self._say, send))

    def _say(self, send: Any, message: Any) -> Any:
        """What the application calls, and awaits: a response's head goes out with what follows."""
        if send is self._sender:  # else it has ended: the engine says what it thinks of that
            kind = message["type"]
            if kind == "http.response.body":
                self._holding = not message.get("more_body", False)
            elif kind == "http.response.start":
                self._holding = True
                self._engine.flush_soon(self)
        return send(message)

    def close(self) -> None:
        """See `asyncio.BaseTransport`."""
        super().close()
        if self._holding:  # mostly because of a response that ends in this instant; but it may have failed instead
            self._engine.flush_soon(self)

    def _respond(self) -> None:
        """The engine has written the end of a response."""
        self._answered()
        if self._ending:
            return  # the client has gone, or it was the engine's own answer, at whose end the connection ends
        self._responded()
        words, border, out = self.words, self._border, self._out
        self._holding = False
        if self._last:
            words[FLAGS] |= _CLOSING
        elif not border.complete:
            words[FLAGS] |= _OPAQUE  # answered before it came to its end: the rest of it belongs to nobody else
        data = b"".join(out)
        words[FINAL_BASE] = self._fed
        words[FINAL_END] = self._wrote + len(data)
        self._done = True
        if data:
            out.clear()
            self._put(data)
        if self._last:
            self._close()
        elif not (self._backlog or self._closing):
            self._commit()

    def _answered(self) -> None:
        """The request is over, whatever its application does yet."""
        if self._sender is not None:
            self._sender = None
            self._engine.tally.over += 1

    def _drained(self) -> None:
        super()._drained()
        self.settle()

    def settle(self) -> None:
        """If the response has left the process, the request is over, and the next one may begin."""
        if self._done and not (self._backlog or self._last or self._closing):
            self._commit()

    def _commit(self) -> None:
        words, border, held = self.words, self._border, self._held
        if border.opaque:
            words[WRITTEN] = self._wrote
            words[FINAL_END] = 0
            words[FLAGS] = _OPAQUE  # and no more CALLED
            words[ATTEMPT] = 0
        elif border.complete:
            words[FINAL_BASE] = self._fed  # some of it may have come after its response
            # Bytes of the next request that found no buffer must not look as if there were none.
            words[FLAGS] = _OVERFLOW if held and not words[BUFFER] else 0
            words[ATTEMPT] = 0
            words[BASE] = self._fed
            words[WRITTEN] = self._wrote
            words[FINAL_END] = 0
            if not held:
                self._intake.release()
        else:
            return  # the rest of it has to come first
        self._done = self._begun = False
        if held:
            self._poller.loop.call_soon(self._go_on)
        elif self._leaving:
            self._give_back()

    def _go_on(self) -> None:
        """With the bytes that were held back."""
        data, self._held = self._held, b""
        if data and not self._closing:
            self._feed(data)
            if not self._held and not self._paused:
                super().resume_reading()

    # Its end here

    @property
    def idle(self) -> bool:
        """Nothing is in progress, and nothing has come of a next request."""
        return not (self._begun or self._done or self._held or self._last)

    @property
    def quiet(self) -> bool:
        """See `Transport.quiet`."""
        return not (self._backlog or self._held or self._sender)

    def leave(self) -> None:
        """Give it back as soon as it is idle."""
        self._leaving = True
        if self.idle and not self._closing:
            self._give_back()

    def _give_back(self) -> None:
        """Let go of it without ending it: the dispatcher has it, and what comes now waits in the kernel."""
        if self._border.opaque:
            self._protocol.shutdown()  # nobody else could go on with it
        else:
            self._intake.release()
            self.returned = self.passed.returned = True
            self.passed.read = b""
            self._end(None)

    def set_protocol(self, protocol: Any) -> None:
        """See `asyncio.BaseTransport`: another protocol takes over (WebSocket), and has it for itself."""
        self.words[FLAGS] |= _OPAQUE
        self.flush()
        self._upgraded = True
        super().set_protocol(protocol)
        self._let_go()

    def _over(self, error: Exception | None) -> None:
        if self._sender is not None and self._ends_by_close and self._wrote != self.words[WRITTEN]:
            self.passed.reset()  # the response has failed, and what is out of it would pass for the whole
        elif not self.returned:
            self.passed.shut_down()
        self._done = False
        self._let_go()
        super()._over(error)
        self._responded = None  # which refers to this

    def _let_go(self) -> None:
        """The slot may be another connection's soon, or nobody's, and the application of this one goes on."""
        self._answered()
        self._intake.forget()
        self.words = NOWHERE
        self._engine.ended(self)
