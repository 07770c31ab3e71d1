"""`Environs`: makes the environ of a WSGI application (PEP 3333) from the scope of a request."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any
from urllib.parse import unquote_to_bytes

from fdpass.serve.worker.wsgi.files import FileWrapper

log = logging.getLogger("fdpass.serve")
_NAMES_MAX = 1024
_DROPPED = ""
_OF_CGI = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}  # RFC 3875, 4.1: without HTTP_
_LIKE_THEM = {b"content_type", b"content_length"}


class Environs:
    """Makes the environs of one worker.

    Args:
        underscores: The application gets headers whose names have underscores. CGI writes ``-`` as ``_``, so that
            such a header can pass for one that only a proxy may set: ``X_User`` for ``X-User``.
        threads: How many requests run at a time.
    """

    def __init__(self, *, underscores: bool, threads: int) -> None:
        self._underscores = underscores
        self._keys = dict(_OF_CGI)
        self._script_name = _latin(os.environ.get("SCRIPT_NAME", "").rstrip("/"))
        self._common: dict[str, Any] = {
            "SERVER_SOFTWARE": "fdpass",
            "wsgi.version": (1, 0),
            "wsgi.multithread": threads > 1,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "wsgi.file_wrapper": FileWrapper,
        }

    def make(self, scope: dict[str, Any], body: Any) -> dict[str, Any]:
        """The environ of a request.

        Args:
            scope: The request, as in ASGI.
            body: The request's body, a file.
        """
        scheme = scope["scheme"]
        environ = self._common.copy()
        environ["wsgi.url_scheme"] = scheme
        environ["wsgi.input"] = body
        environ["wsgi.errors"] = sys.stderr
        environ["REQUEST_METHOD"] = scope["method"]
        environ["SERVER_PROTOCOL"] = "HTTP/" + scope["http_version"]
        environ["QUERY_STRING"] = scope["query_string"].decode("latin-1")
        self._add_path(environ, scope)
        host, port = scope["server"] or ("", None)
        if port is None:  # a Unix socket, for which PEP 3333 demands a name and a port all the same
            host, port = "localhost", 443 if scheme == "https" else 80
        environ["SERVER_NAME"] = host
        environ["SERVER_PORT"] = str(port)
        client = scope["client"]
        if client is None:
            environ["REMOTE_ADDR"] = ""  # a Unix socket: RFC 3875, 4.1.8 demands the variable
        else:
            environ["REMOTE_ADDR"] = client[0]
            environ["REMOTE_PORT"] = str(client[1])
        in_custody = scope["extensions"].get("fdpass")
        if in_custody is not None:
            environ["fdpass.attempt"] = in_custody["attempt"]
        self._add_headers(environ, scope["headers"])
        return environ

    def _add_path(self, environ: dict[str, Any], scope: dict[str, Any]) -> None:
        """Add the path, decoded from percent-encoding: each character is one byte."""
        raw = scope["raw_path"]
        path = unquote_to_bytes(raw).decode("latin-1") if b"%" in raw else scope["path"]
        root = _latin(scope["root_path"]) or self._script_name
        if root and path.startswith(root) and path[len(root) : len(root) + 1] in {"", "/"}:
            path = path[len(root) :]
        environ["SCRIPT_NAME"] = root
        environ["PATH_INFO"] = "" if path == "*" else path  # RFC 9112, 3.2.4: OPTIONS for the whole server

    def _add_headers(self, environ: dict[str, Any], headers: list[tuple[bytes, bytes]]) -> None:
        keys = self._keys
        for name, value in headers:
            key = keys.get(name)
            if key is None:
                key = self._learn(name)
            if key is not _DROPPED:
                text = value.decode("latin-1")
                if key in environ:  # RFC 9110, 5.3; RFC 6265, 5.4
                    text = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + text
                environ[key] = text

    def _learn(self, name: bytes) -> str:
        """The key of a header in the environ; `_DROPPED` if the application does not get the header."""
        if b"_" in name and (not self._underscores or name in _LIKE_THEM):
            log.debug("header %r is dropped: its name has an underscore (--underscore-headers)", name)
            key = _DROPPED
        else:
            key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        if len(self._keys) >= _NAMES_MAX:
            self._keys = dict(_OF_CGI)
        self._keys[name] = key
        return key


def _latin(text: str) -> str:
    """Text as PEP 3333 has it: each character is one byte."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")
