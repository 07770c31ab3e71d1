"""`Call`: one call of a WSGI application in a thread: ``start_response``, ``write``, the body of the response."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from fdpass.serve.worker.forks import FORKS
from fdpass.serve.worker.http.exchange import Exchange
from fdpass.serve.worker.http.response import CHUNKED, LENGTH, NONE, head_of
from fdpass.serve.worker.wsgi.body import ClientGone, body_of
from fdpass.serve.worker.wsgi.environ import Environs
from fdpass.serve.worker.wsgi.files import FileWrapper
from fdpass.serve.worker.wsgi.queues import Queues

log = logging.getLogger("fdpass.serve")
_STATUS = re.compile(r"([1-9][0-9][0-9])(?: .*)?").fullmatch
_NO_LENGTH = -1


class TooLong(RuntimeError):
    """The application has given more bytes than its Content-Length."""


class Call(Queues):
    """One call.

    Args:
        exchange: The request.
        known: The request's body, if all of it has come.
        notify: Makes the loop call `wake`. From any thread.

    Attributes:
        head: Status and headers of the response, once the application has given them.
        unframed: The headers do not say where the body ends.
        error: What the application raised.
    """

    def __init__(self, exchange: Exchange, known: bytes | None, notify: Callable[[Any], None]) -> None:
        super().__init__(exchange, notify)
        self._known = known
        self.head: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self.unframed = False
        self.error: BaseException | None = None
        self._sending = False  # a part of the body was given: the head cannot be replaced any more
        self._bodyless = False  # the client gets no body, whatever the application gives
        self._left = _NO_LENGTH  # bytes of the Content-Length that were not given yet

    @property
    def request(self) -> str:
        """Method and path, for the log."""
        return f"{self._exchange.method} {ascii(self._exchange.scope['path'])[1:-1]}"

    def run(self, app: Any, environs: Environs, event: threading.Event) -> None:
        """Call the application. Never raises.

        Args:
            app: The application.
            environs: Makes its environ.
            event: Of this thread, to wait with.
        """
        self._enter(event)
        try:
            if not self.gone:
                self.since = time.monotonic()
                self._call(app, environs.make(self._exchange.scope, body_of(self._known, self._ask)))
        except BaseException as error:  # noqa: BLE001 - SystemExit, too, which would end the thread
            FORKS.end_child(error)
            if isinstance(error, ClientGone) and self.gone:
                log.debug("the client has gone: %s", self.request)
            elif isinstance(error, TooLong):
                log.error("%s: %s", error, self.request)  # noqa: TRY400 - its traceback says no more
            else:
                self.error = error
        finally:
            self.since = 0.0
            self.over = True
            self._tell()

    def _call(self, app: Any, environ: dict[str, Any]) -> None:
        result = app(environ, self.start_response)
        try:
            if not (type(result) is FileWrapper and self._send_file(result)):
                self._send(result)
            if self.head is None:
                raise RuntimeError("the application has not called start_response")
            self._sending = self.ended = True
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                if self.ended:
                    self._tell()  # the client need not wait for `close`
                close()

    def start_response(self, status: Any, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
        """See PEP 3333.

        Raises:
            RuntimeError: It was called before; or the status or a header cannot be sent.
            TypeError, ValueError: Likewise.
            BaseException: That of ``exc_info``, if a part of the body was given before.
        """
        if exc_info:
            try:
                if self._sending:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # it refers to this frame
        elif self.head is not None:
            raise RuntimeError("start_response was called a second time, without exc_info")
        matched = _STATUS(status)
        if matched is None:
            raise ValueError(f"{status!r} is not a status such as '200 OK'")
        code = int(matched[1])
        try:
            pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        except AttributeError:
            raise TypeError(f"headers are pairs of text, not {headers!r}") from None
        # Only for what it returns and raises: the exchange makes the head that is sent.
        to_head = self._exchange.method == "HEAD"
        _, framing, length, _ = head_of(code, pairs, b"", to_head=to_head, old=False, closes=False)
        self._bodyless = framing == NONE
        self._left = length if framing == LENGTH else _NO_LENGTH
        self.unframed = framing == CHUNKED and all(name.lower() != b"transfer-encoding" for name, _ in pairs)
        self.head = code, pairs
        return self._write

    def _write(self, part: bytes) -> None:
        """What `start_response` returns."""
        self._add(part)
        self._tell()
        self._wait_for_room()

    def _send_file(self, wrapper: FileWrapper) -> bool:
        """Let the loop's side send a file, and wait for its end. Returns False if the file has to be read."""
        part = None if self._sending or self._bodyless or self.head is None else wrapper.part()
        if part is None:
            return False
        if self._left != _NO_LENGTH and self._left < part.count:
            part = part.cut(self._left)
        self.file = part
        self._sending = self.ended = True
        self._wait(lambda: self.file is None)
        return True

    def _send(self, result: Any) -> None:
        """Send the body that the application returned."""
        if type(result) is list or type(result) is tuple:
            for part in result:  # all is there: the loop's side has to look only once
                if not self._add(part):
                    return
        else:
            for part in result:
                if not self._add(part):
                    return
                self._tell()
                self._wait_for_room()

    def _add(self, part: bytes) -> bool:
        """Add a part to the queue. Returns False if no more is wanted.

        Raises:
            ClientGone: The client has gone.
            TooLong: It goes beyond the Content-Length; what is within was added.
            RuntimeError, TypeError: It is no part of a body.
        """
        if not isinstance(part, bytes):
            raise TypeError(f"a part of a response's body is bytes, not {type(part).__name__}")
        if self.gone:
            raise ClientGone("the client has gone")
        if not part:
            return True
        if self.head is None:
            raise RuntimeError("the application gave a part of the body before it called start_response")
        self.since = time.monotonic()
        self._sending = True
        if self._bodyless:
            self.ended = True
        elif self._left == _NO_LENGTH:
            self._queue(part)
        else:
            self._add_within_length(part)
        return not self._bodyless

    def _add_within_length(self, part: bytes) -> None:
        left = self._left
        self._left = max(0, left - len(part))
        if left:
            self._queue(part[:left])
        self.ended = not self._left
        if len(part) > left:
            raise TooLong("the response is longer than its Content-Length, and was cut there")
