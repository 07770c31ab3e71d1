"""Requests and responses of the dashboard, in the form of ASGI."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_MOST_BODY = 4096  # bytes: a token and a number
_SAFE = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Headers of each response; the page has its own policy."""


class Refused(Exception):
    """The request cannot be answered; the sentence says why.

    Attributes:
        status: The status of the response.
        allow: For status 405: the methods that are allowed.
    """

    def __init__(self, status: int, why: str, allow: str = "") -> None:
        super().__init__(why)
        self.status = status
        self.allow = allow


class Request:
    """One request.

    Args:
        scope: Of ASGI.
        receive: Of ASGI.

    Attributes:
        method: Such as GET.
        path: Decoded, without the query.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self._query: bytes = scope["query_string"]
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._receive = receive

    def header(self, name: str) -> str:
        """The value of a header; empty if the request does not have it."""
        wanted = name.encode()
        return next((value.decode("latin-1") for key, value in self._headers if key == wanted), "")

    def has_header(self, name: str) -> bool:
        """Whether the request has this header."""
        return any(key == name.encode() for key, _ in self._headers)

    def parameter(self, name: str) -> str:
        """The last value of a parameter of the query; empty if there is none."""
        return parse_qs(self._query.decode("latin-1")).get(name, [""])[-1]

    async def json(self) -> dict[str, Any]:
        """The body, an object.

        Raises:
            Refused: The body is too long, or no JSON object.
        """
        body, more = b"", True
        while more:
            message = await self._receive()
            body += message.get("body", b"")
            more = message.get("more_body", False) and message["type"] == "http.request"
            if len(body) > _MOST_BODY:
                raise Refused(413, f"the body may have {_MOST_BODY} bytes")
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise Refused(400, "the body must be a JSON object")
        return found


@dataclass(frozen=True, slots=True)
class Response:
    """One response.

    Attributes:
        body: The content.
        kind: Its type.
        status: The status.
        headers: More headers.
    """

    body: bytes
    kind: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    async def send(self, send: Send, *, head_only: bool) -> None:
        """Send the response, or only its head."""
        headers = {"content-type": self.kind, "content-length": str(len(self.body))}
        await start(send, self.status, {**headers, **self.headers})
        await send({"type": "http.response.body", "body": b"" if head_only else self.body})


async def start(send: Send, status: int, headers: dict[str, str]) -> None:
    """Send the head of a response."""
    lines = [(name.encode(), value.encode()) for name, value in {**_SAFE, **headers}.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})


def as_json(content: Any, status: int = 200, **headers: str) -> Response:
    """A response with a JSON object."""
    return Response(json.dumps(content).encode(), "application/json", status, headers)


def as_text(text: str, status: int = 200) -> Response:
    """A response with a text."""
    return Response(f"{text}\n".encode(errors="backslashreplace"), status=status)  # it may have names of files
