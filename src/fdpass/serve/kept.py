"""`Kept`: an HTTP connection in custody, between the loop's transport and the engine's protocol.

It reads into a buffer that the dispatcher has too, feeds one request at a time to the engine's protocol, sends
what belongs together in one write, and keeps the slot true: `slots` says in which order, `recovery` what for.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from fdpass.serve.fronts import Response, Transport
from fdpass.serve.intake import NOWHERE, Intake
from fdpass.serve.keeper import HttpKeeper
from fdpass.serve.outlet import Outlet
from fdpass.serve.passed import PassedSocket
from fdpass.serve.requests import Border, is_special
from fdpass.serve.slots import (
    ATTEMPT,
    BASE,
    CALLED_BEFORE,
    CALLED_BY_METHOD,
    FINAL_BASE,
    FINAL_END,
    FLAGS,
    WRITTEN,
    Flag,
)

_CALLED, _OPAQUE, _CLOSING, _OVERFLOW = map(int, (Flag.CALLED, Flag.OPAQUE, Flag.CLOSING, Flag.OVERFLOW))


class Kept(asyncio.BufferedProtocol):
    """A connection in custody.

    Args:
        keeper: See `HttpKeeper`.
        passed: Its socket.
        words: Its slot.

    Attributes:
        keeper, passed, words: See above.
        leaving: This worker retires: it is given back as soon as it is idle.
        outlet: Where it is written.
        response: The one in progress, if the application has been called and has not ended it.
    """

    def __init__(self, keeper: HttpKeeper, passed: PassedSocket, words: memoryview) -> None:
        self.passed = passed
        self.words = words
        self.leaving = self.returned = False
        self.keeper = keeper
        self._inner: Any = None
        self._border = Border()
        marks = passed.family == socket.AF_UNIX
        self._intake = Intake(words, keeper.buffers, keeper.scratch, marks=marks)
        self.get_buffer = self._intake.place  # type: ignore[method-assign]
        self.outlet = Outlet(words, marks=marks)
        self._real: Any = None
        self._fed = words[BASE]  # the position up to which the engine has been fed
        self._begun = False  # bytes of a request are there
        self._done = False  # its response is complete, but BASE does not say so yet
        self._held = passed.read  # bytes behind the request in progress
        self._closing = False
        self._paused = False  # by the engine
        self.response: Response | None = None

    def wrap(self, inner: Any) -> None:
        """Stand before the engine's protocol."""
        self._inner = inner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._real = self.outlet.transport = transport
        self._inner.connection_made(Transport(self, transport))
        if self._held:
            self._replay()
        elif self.leaving:
            self.keeper.loop.call_soon(self.leave)
        elif self._fed:  # it was idle elsewhere: the engine's own timer begins with a first response
            self.keeper.loop.call_later(self.keeper.keep_alive, self._expire, self._fed)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        if not self.returned:
            self.passed.shut_down()
        self._intake.forget()
        self._forget()
        self._done = False
        self.keeper.ended(self)
        inner, self._inner = self._inner, None  # which refers to this
        inner.connection_lost(exc)

    def _forget(self) -> None:
        """The slot may be another connection's soon, and the application of this one goes on."""
        self.words = NOWHERE
        self.outlet.forget(self.words)

    def _expire(self, position: int) -> None:
        if self.idle and self._fed == position and self._inner is not None:
            self._real.close()

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._inner.resume_writing()

    def eof_received(self) -> Any:
        """See `asyncio.BufferedProtocol`."""
        return self._inner.eof_received()

    def buffer_updated(self, nbytes: int) -> None:
        """So much has come."""
        intake = self._intake
        ready = intake.ready
        if ready is not None and not self._begun:
            data = bytes(ready[:nbytes])
            if 0 < data.find(b"\r\n\r\n") == nbytes - 4 and not is_special(data[:-2].lower()):
                # A whole request without a body, as most are: what `came` and `_feed` come to, with less ado.
                intake.read += nbytes
                intake.ready = None
                self._fed += nbytes
                self._begun = True
                self._inner.data_received(data)
                return
        data = intake.came(nbytes)
        if self._held or (self._done and self._border.complete):
            self._hold(data)
            self.settle()
        else:
            self._feed(data)

    def _hold(self, data: bytes) -> None:
        """The request in progress has to end first."""
        self._held += data
        self._real.pause_reading()

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
            data = data[:used]
        self._inner.data_received(data)
        if self._done:
            self.settle()  # it was answered early: the rest of it may have come now

    def _replay(self) -> None:
        """Bytes came with the connection: into a buffer with them, and on."""
        data, self._held = self._held, b""
        self._intake.begin(data)
        self._intake.read += len(data)
        self._feed(data)

    # From the engine's protocol

    def flush(self) -> None:
        """Send what was held to go together."""
        self.outlet.flush()
        if self._closing:
            self._real.close()

    def flush_head(self) -> None:
        """A response has begun a moment ago: if its head still waits, it goes out now."""
        self.outlet.flush_head()
        if self._closing and not self.outlet.holding:
            self._real.close()

    def close(self) -> None:
        """End it, once everything is sent."""
        self._closing = True
        if not self.outlet.holding:
            self._real.close()

    def is_closing(self) -> bool:
        """Whether it was closed, or is lost."""
        return self._closing or self._real.is_closing()

    def pause(self, *, paused: bool) -> None:
        """The engine wants no more for now, or wants it again."""
        self._paused = paused
        if paused:
            self._real.pause_reading()
        elif not self._held:
            self._real.resume_reading()

    def become(self, protocol: Any) -> None:
        """Another protocol takes over (WebSocket): it has the transport for itself."""
        self.words[FLAGS] |= _OPAQUE
        self.flush()
        self._intake.release()
        self._forget()  # of its end we are not told
        self.keeper.ended(self)
        self._real.set_protocol(protocol)

    # From the application

    async def call(self, scope: Any, receive: Any, send: Any) -> None:
        """The application, for an HTTP request on this connection."""
        words = self.words
        about = {"attempt": words[ATTEMPT] % CALLED_BEFORE, "slot": self.passed.slot}
        scope["extensions"] = (
            {**scope["extensions"], "fdpass": about} if "extensions" in scope else {"fdpass": about}
        )
        words[FLAGS] |= CALLED_BY_METHOD.get(scope["method"], _CALLED)
        if self._done or not self._begun:  # the engine sees a request where `Border` saw none
            self._border.opaque = True
            words[FLAGS] |= _OPAQUE
        self.response = Response(self, send)
        tally = self.keeper.tally
        tally.begun += 1
        try:
            await self.keeper.app(scope, receive, self.response.send)
        finally:
            tally.over += 1

    def final(self) -> None:
        """The response is complete: what it still holds is its end."""
        words = self.words
        if self._inner is None:
            return  # the client has gone
        outlet, fed = self.outlet, self._fed
        data = outlet.held()
        self.response = None
        if self._closing:
            words[FLAGS] |= _CLOSING
        elif not self._border.complete:
            words[FLAGS] |= _OPAQUE  # answered before it came to its end: the rest of it belongs to nobody else
        words[FINAL_BASE] = fed
        words[FINAL_END] = outlet.wrote + len(data)
        self._done = True
        if data:
            outlet.send(data)
        if self._closing:
            self._real.close()
        else:
            self.settle()

    def settle(self) -> None:
        """If the response has left the process, the request is over, and the next one may begin."""
        if not self._done or self._inner is None or self.is_closing():
            return
        border = self._border
        if not border.opaque:
            if not border.complete:
                return  # the rest of it has to come first
            if not self.outlet.drained:
                self.keeper.undrained(self)
                return
            self._commit()
        else:
            self.words[ATTEMPT] = 0
        self._done = self._begun = False
        if self._held:
            self.keeper.loop.call_soon(self._go_on)
        elif self.leaving:
            self.give_back()

    def _commit(self) -> None:
        words = self.words
        self.outlet.mark()
        if words[FINAL_BASE] != self._fed:
            words[FINAL_BASE] = self._fed  # some of it came after its response
        if words[FLAGS] & _OVERFLOW:
            self._intake.refer()
        words[FLAGS] = 0
        words[ATTEMPT] = 0
        words[BASE] = self._fed
        words[WRITTEN] = self.outlet.wrote
        words[FINAL_END] = 0
        if not self._held:
            self._intake.release()

    def _go_on(self) -> None:
        """With the bytes that were held back."""
        data, self._held = self._held, b""
        if data and not self._real.is_closing():
            self._feed(data)
            if not self._held and not self._paused:
                self._real.resume_reading()

    # The end of this worker

    @property
    def idle(self) -> bool:
        """Nothing is in progress, and nothing has come of a next request."""
        return not (self._begun or self._done or self._held or self._closing)

    def leave(self) -> None:
        """Give it back as soon as it is idle."""
        self.leaving = True
        if self._inner is not None and self._real is not None and self.idle:
            self.give_back()

    def give_back(self) -> None:
        """Let go of it without ending it: the dispatcher has it, and what comes now waits in the kernel."""
        if self._border.opaque:
            self._inner.shutdown()  # nobody else could go on with it
        elif not self._real.is_closing():
            self._intake.release()
            self.returned = self.passed.returned = True
            self.passed.read = b""
            self._real.pause_reading()
            self._real.abort()
