"""`Parser`: httptools' parser of requests, whose word about upgrades is not the last.

For httptools, a request that asks for another protocol ends at its head, whatever body it has. Of such protocols
we speak WebSocket alone. Any other request of that kind is parsed again without its Upgrade header, which we may
ignore (RFC 9110, 7.8): so its body is not taken for the next request.
"""

from __future__ import annotations

from typing import Protocol

import httptools

from fdpass.serve.worker.http.request import Headers

ParserError = httptools.HttpParserError
_HEAD_MAX = 128 * 1024  # bytes of a head, or of trailers; besides those of the last read
_TARGET_MAX = 0xFFFF  # bytes; httptools refuses a longer one


class Requests(Protocol):
    """Who is told what the parser finds."""

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
        """

    def body_parsed(self, body: bytes) -> None:
        """A part of its body."""

    def end_parsed(self, *, keeps: bool) -> None:
        """It is whole.

        Args:
            keeps: As for the head; a trailer may have changed it.
        """

    def websocket_parsed(self, handshake: bytes) -> bool:
        """A client asks for a WebSocket with these bytes. If it can have one (True), nothing more is parsed."""


class Parser:
    """The parser of one connection.

    Args:
        requests: Who is told what it finds.

    Attributes:
        partial: It has a part of a request.
        stopped: What comes is no HTTP any more: nothing is parsed.
    """

    __slots__ = (
        "_asked",
        "_expects",
        "_feed",
        "_headers",
        "_inner",
        "_pending",
        "_requests",
        "_upgrades",
        "_url",
        "partial",
        "stopped",
    )

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._url = b""
        self._headers: Headers = []
        self._asked: Headers | None = None  # the headers of a request that is parsed again, as they came
        self._expects = self._upgrades = False
        self._pending = 0  # bytes since the last head, part of a body, or end was found
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
            ParserError: They are not HTTP/1.1.
        """
        while data and not self.stopped:
            self._pending += len(data)
            try:
                self._feed(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade(data[upgrade.args[0] :])
            else:
                if self._pending > _HEAD_MAX:
                    raise ParserError("a head is too long, or its end is missing")
                return

    def _without_upgrade(self, rest: bytes) -> bytes:
        """What there is to parse, when a request for another protocol, and bytes behind it, have come."""
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
        """Nothing more is parsed, and nobody is told: this and who it tells refer to each other no more."""
        self.stopped = True
        self._inner = self._feed = self._requests = None  # type: ignore[assignment]

    # From httptools

    on_status = on_chunk_header = on_chunk_complete = None  # it calls none of these then

    def on_message_begin(self) -> None:
        """A request begins."""
        self.partial = True
        self._url = b""
        self._headers = []
        self._expects = self._upgrades = False

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._expects = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._pending = 0
        inner, target = self._inner, self._url
        method = inner.get_method().decode("ascii")
        if method == "CONNECT":
            self.stopped = True  # what follows is no request, even if the application takes this for one
        elif inner.should_upgrade():
            self._upgrades = True
            return
        if target[:1] != b"/" or b"#" in target or len(target) > _TARGET_MAX:
            target = origin_form(target)
        headers, self._asked = self._asked or self._headers, None
        self._requests.head_parsed(
            method,
            inner.get_http_version(),
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
        """The request is whole, or asks for another protocol."""
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
    parsed = httptools.parse_url(target)
    path: bytes = parsed.path or b"/"
    return path if parsed.query is None else path + b"?" + parsed.query
