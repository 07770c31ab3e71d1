"""`Scopes`: makes the scopes of a connection's requests, as the ASGI specification has them."""

from __future__ import annotations

import urllib.parse
from typing import Any

from fdpass.serve.worker.http.request import Headers
from fdpass.serve.worker.http.wire import Address, HttpEngine
from fdpass.serve.worker.passed_socket import PassedSocket, peer_of

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


class Scopes:
    """Makes the scopes of one connection.

    Args:
        engine: Has the state that the application's lifespan has left, and the server's address.
        passed: The connection. Lent for this call.
        extensions: See `fdpass.serve.worker.http.wire.Wire`. Lent.
        tls: The client speaks TLS.

    Attributes:
        trusted: What the headers of a request say about its client is believed.
    """

    __slots__ = ("_extensions", "_root", "_scope", "_state", "trusted")

    def __init__(self, engine: HttpEngine, passed: PassedSocket, extensions: dict[str, Any], *, tls: bool) -> None:
        client = peer_of(passed)
        self._state = engine.state
        self._extensions = extensions
        forwarding = engine.forwarding
        self.trusted = forwarding is not None and forwarding.trusts(client, is_unix=passed.is_unix)
        self._root = engine.root_path
        self._scope = _SCOPE.copy()
        self._scope["root_path"] = self._root
        self._scope["server"] = engine.server_of(passed)
        self._scope["client"] = client[:2] if isinstance(client, tuple) else None
        self._scope["scheme"] = "https" if tls else "http"

    @property
    def client_name(self) -> str:
        """The client, for the log."""
        return name_of(self._scope["client"])

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
        if self._root and path.startswith("/"):  # the ASGI specification; OPTIONS may have *
            path = self._root + path
            raw = path.encode("ascii")
        scope = self._scope.copy()
        scope["asgi"] = _ASGI.copy()
        scope["http_version"] = version
        scope["method"] = method
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["raw_path"] = raw
        scope["query_string"] = query
        scope["headers"] = headers
        scope["state"] = self._state.copy()
        scope["extensions"] = self._extensions.copy()
        return scope


def name_of(client: Address | None) -> str:
    """A client, for the log, by the address in its scope."""
    return f"client {client[0]}:{client[1]}" if client else "a client of a Unix socket"
