"""`Scopes`: makes the scopes of a connection's requests, as the ASGI specification has them."""

from __future__ import annotations

import urllib.parse
from typing import Any

from fdpass.serve.worker.http.request import Headers
from fdpass.serve.worker.http.wire import HttpEngine
from fdpass.serve.worker.passed_socket import PassedSocket

_ASGI = {"version": "3.0", "spec_version": "2.3"}
_SCOPE: dict[str, Any] = {  # all keys in their order; a copy of a dict costs less than a new one
    "type": "http",
    "asgi": _ASGI,
    "http_version": "1.1",
    "server": None,
    "client": None,
    "scheme": "http",
    "method": "GET",
    "root_path": "",
    "path": "",
    "raw_path": b"",
    "query_string": b"",
    "headers": None,
    "state": None,
    "extensions": None,
}
_EXTENSIONS: dict[str, Any] = {
    "http.response.early_hint": {},
    "http.response.pathsend": {},
    "http.response.trailers": {},
}


class Scopes:
    """Makes the scopes of one connection.

    Args:
        engine: Has the state that the application's lifespan has left, and the server's address.
        passed: The connection. Lent for this call.
        tls: The client speaks TLS.
    """

    __slots__ = ("_scope", "_state")

    def __init__(self, engine: HttpEngine, passed: PassedSocket, tls: bool) -> None:
        try:
            client = passed.getpeername()
        except OSError:  # the client has gone
            client = None
        self._state = engine.state
        self._scope = _SCOPE.copy()
        self._scope["server"] = engine.server_of(passed)
        self._scope["client"] = client[:2] if isinstance(client, tuple) else None
        self._scope["scheme"] = "https" if tls else "http"

    @property
    def client_name(self) -> str:
        """The client, for the log."""
        client = self._scope["client"]
        return f"client {client[0]}:{client[1]}" if client else "a client of a Unix socket"

    def make(self, method: str, version: str, target: bytes, headers: Headers) -> dict[str, Any]:
        """The scope of a request.

        Args:
            method: As it came.
            version: Of HTTP, as 1.1.
            target: The path and the query.
            headers: Names in lower case. Given.

        Raises:
            UnicodeDecodeError: The path is not ASCII.
        """
        raw, _, query = target.partition(b"?")
        path = raw.decode("ascii")
        scope = self._scope.copy()
        scope["asgi"] = _ASGI.copy()
        scope["http_version"] = version
        scope["method"] = method
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["raw_path"] = raw
        scope["query_string"] = query
        scope["headers"] = headers
        scope["state"] = self._state.copy()
        scope["extensions"] = _EXTENSIONS.copy()
        return scope
