"""`Parser`: httptools' parser of requests, corrected in what it makes of upgrades.

For httptools, a request that asks for another protocol ends at its head, whatever body it has. Of such protocols
we speak WebSocket alone. Any other request of that kind is parsed again without its Upgrade header, which we may
ignore (RFC 9110, 7.8): so its body is not taken for the next request.
"""

from __future__ import annotations

import re
from typing import Protocol

import httptools

from fdpass.serve.worker.http.request import Headers

_TARGET_MAX = 0xFFFF  # bytes; httptools refuses a longer one
_WITHOUT_HOST = {"1.0", "0.9"}  # versions of HTTP
_HOST = re.compile(rb"(?:\[[0-9A-Za-z:.]+\]|[\w\-.~%!$&'()*+,;=]*)(?::\d*)?", re.ASCII).fullmatch  # RFC 9110, 7.2


class ParserError(Exception):
    """What the client sent is refused.

    Args:
        reason: For the log.
        status: Of the response with which it is refused.
    """

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


class Requests(Protocol):
    """What the parser calls for what it finds."""

    def head_parsed(
        self, method: str, version: str, target: bytes, headers: Headers, *, keeps: bool, expects: bool
    ) -> None:
        """The head of a request.

        Args:
            method: In ASCII.
            version: 1.1, 1.0, ...
            target: The path and the query.
            headers: Names in lower case.
            keeps: The client does not end the connection after it.
            expects: The client waits for ``100 Continue``.

        Raises:
            ParserError: The request is refused.
        """

    def body_parsed(self, body: bytes) -> None:
        """A part of the request's body.

        Raises:
            ParserError: The request is refused.
        """

    def end_parsed(self, *, keeps: bool) -> None:
        """The end of the request.

        Args:
            keeps: As for the head; a trailer may have changed it.
        """

    def websocket_parsed(self, handshake: bytes) -> bool:
        """A client asks for a WebSocket with these bytes. If it can have one (True), nothing more is parsed."""


class Parser:
    """The parser of one connection.

    Args:
        requests: Called for what the parser finds.
        head_max: Bytes that a head may have, or trailers; trailers that end in the last read may be longer.

    Attributes:
        partial: A request has begun, and has not ended.
        stopped: Nothing is parsed any more: what comes is no request.
    """

    __slots__ = (
        "_asked",
        "_expects",
        "_feed",
        "_head_max",
        "_headers",
        "_hosts",
        "_inner",
        "_most",
        "_pending",
        "_requests",
        "_upgrades",
        "_url",
        "partial",
        "stopped",
    )

    def __init__(self, requests: Requests, head_max: int) -> None:
        self._requests = requests
        self._head_max = head_max
        self._hosts = 0  # Host headers of the present request; a malformed one counts twice
        self._url = b""
        self._headers: Headers = []
        self._asked: Headers | None = None  # the headers of a request that is parsed again, as they came
        self._expects = self._upgrades = False
        self._pending = 0  # bytes since the last head, part of a body, or end was found
        self._most = 0  # bytes that the present head can have
        self.partial = self.stopped = False
        self._renew()

    def _renew(self) -> None:
        self._inner = httptools.HttpRequestParser(self)
        # Else a request behind one that ends the connection would be an error before that one is answered.
        self._inner.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed = self._inner.feed_data

    def feed(self, data: bytes) -> None:
        """Parse bytes.

        Raises:
            ParserError: They are refused: they are not HTTP/1.1, say.
        """
        while data and not self.stopped:
            self._most = self._pending = self._pending + len(data)
            try:
                self._feed(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade(data[upgrade.args[0] :])
            except httptools.HttpParserCallbackError as error:
                cause = error.__context__
                raise cause if isinstance(cause, ParserError) else ParserError(repr(cause)) from error
            except httptools.HttpParserError as error:
                raise ParserError(str(error)) from error
            else:
                if self._pending > self._head_max:
                    raise self._too_long()
                return

    def _too_long(self) -> ParserError:
        return ParserError(f"a head has more than {self._head_max} bytes", 431)

    def _without_upgrade(self, rest: bytes) -> bytes:
        """Return what is to be parsed after a head that asks for another protocol, with ``rest`` behind it."""
        if (
            not self.stopped
            and self._is_websocket()
            and self._requests.websocket_parsed(self._head(self._headers))
        ):
            self.stopped = True
            if rest:
                raise ParserError("bytes came behind the handshake of a WebSocket, before its answer")
        if self.stopped:
            return b""
        head = self._head([header for header in self._headers if header[0] != b"upgrade"])
        self._asked = self._headers
        self._renew()
        return head + rest

    def _is_websocket(self) -> bool:
        found = dict(self._headers)  # the last of each name
        tokens = [token.strip() for token in found.get(b"connection", b"").lower().split(b",")]
        return b"upgrade" in tokens and found.get(b"upgrade", b"").lower() == b"websocket"

    def _head(self, headers: Headers) -> bytes:
        """The head of the request, with these headers."""
        inner = self._inner
        line = b"%b %b HTTP/%b\r\n" % (inner.get_method(), self._url, inner.get_http_version().encode())
        return b"%b%b\r\n" % (line, b"".join([b"%b: %b\r\n" % header for header in headers]))

    def forget(self) -> None:
        """Parse no more. The parser and its ``requests`` refer to each other no more, so no cycle is left."""
        self.stopped = True
        self._inner = self._feed = self._requests = None  # type: ignore[assignment]

    # Called by httptools

    on_status = on_chunk_header = on_chunk_complete = None  # httptools then calls none of these

    def on_message_begin(self) -> None:
        """A request begins."""
        self.partial = True
        self._url = b""
        self._headers = []
        self._hosts = 0
        self._expects = self._upgrades = False

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        name = name.lower()
        if name == b"host":
            self._hosts += 1 if _HOST(value) else 2
        elif name == b"expect" and value.lower() == b"100-continue":
            self._expects = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        if self._most > self._head_max and len(self._head(self._headers)) > self._head_max:
            raise self._too_long()
        self._pending = 0
        inner, target = self._inner, self._url
        method, version = inner.get_method().decode("ascii"), inner.get_http_version()
        if self._hosts != 1 and (self._hosts or version not in _WITHOUT_HOST):
            raise ParserError("it has no Host" if not self._hosts else "its Host is malformed, or repeated")
        if method == "CONNECT":
            self.stopped = True  # what follows CONNECT is no request, whatever the application answers
        elif inner.should_upgrade():
            self._upgrades = True
            return
        if target[:1] != b"/" or b"#" in target or len(target) > _TARGET_MAX:
            target = origin_form(target)
        headers, self._asked = self._asked or self._headers, None
        self._requests.head_parsed(
            method,
            version,
            target,
            headers,
            keeps=inner.should_keep_alive() and not self.stopped,
            expects=self._expects,
        )
        self._headers = []  # for trailers: the application's headers are those that its proxy has checked

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._pending = 0
        self._requests.body_parsed(body)

    def on_message_complete(self) -> None:
        """The request has ended; for httptools it ends at its head, if it asks for another protocol."""
        self._pending = 0
        self.partial = self._upgrades
        if not self._upgrades:
            keeps = self._inner.should_keep_alive()
            self.stopped |= not keeps
            self._requests.end_parsed(keeps=keeps)


def origin_form(target: bytes) -> bytes:
    """The path and the query of any target.

    Raises:
        ParserError: The target is none.
    """
    try:
        parsed = httptools.parse_url(target)
    except httptools.HttpParserError as error:
        raise ParserError(str(error)) from error
    path: bytes = parsed.path or b"/"
    return path if parsed.query is None else path + b"?" + parsed.query


def check_length(headers: Headers, most: int) -> None:
    """Refuse a request whose Content-Length is more than ``most``.

    Raises:
        ParserError: It is.
    """
    for name, value in headers:
        if name == b"content-length" and int(value) > most:
            raise too_large(most)


def too_large(most: int) -> ParserError:
    """The body of a request has more than ``most`` bytes."""
    return ParserError(f"a body has more than {most} bytes", 413)
