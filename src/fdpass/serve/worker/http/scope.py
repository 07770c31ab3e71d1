"""`Scopes`: makes the scopes of a connection's requests, as the ASGI specification has them."""

from __future__ import annotations

import urllib.parse
from typing import Any

from fdpass.serve.worker.http.request import Headers
from fdpass.serve.worker.http.wire import HttpEngine
from fdpass.serve.worker.passed_socket import PassedSocket

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

    __slots__ = ("_client", "_scheme", "_server", "_state")

    def __init__(self, engine: HttpEngine, passed: PassedSocket, *, tls: bool) -> None:
        try:
            client = passed.getpeername()
        except OSError:  # the client has gone
            client = None
        self._client = (str(client[0]), int(client[1])) if isinstance(client, tuple) else None
        self._server = engine.server_of(passed)
        self._scheme = "https" if tls else "http"
        self._state = engine.state

    @property
    def client_name(self) -> str:
        """The client, for the log."""
        return "client {}:{}".format(*self._client) if self._client else "a client of a Unix socket"

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
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "server": self._server,
            "client": self._client,
            "scheme": self._scheme,
            "method": method,
            "root_path": "",
            "path": urllib.parse.unquote(path) if "%" in path else path,
            "raw_path": raw,
            "query_string": query,
            "headers": headers,
            "state": self._state.copy(),
            "extensions": _EXTENSIONS.copy(),
        }
