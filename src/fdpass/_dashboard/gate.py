"""`Gate`: which requests are answered at all, and which may act."""

from __future__ import annotations

import hmac
import ipaddress
import re

from fdpass._dashboard.http import Refused, Request

_WITHOUT_HOST = {"/livez", "/readyz", "/metrics", "/status.json"}
"""Paths that are also read without the header Host: a browser always sends it, but checks of HAProxy do not."""

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:]+))(?::\d+)?", re.IGNORECASE)


class Gate:
    """Checks the name under which a client addresses the dashboard, and the token of an action.

    A page of another site cannot read from the dashboard, but it can give its own name the address 127.0.0.1
    ("DNS rebinding"), and is then the same site. The header Host still has that name.

    Args:
        only_local: The dashboard listens at a loopback address: refuse every name but ``localhost``.
        token: The token; empty: no action is allowed.
    """

    def __init__(self, token: str, *, only_local: bool) -> None:
        self._only_local = only_local
        self._token = token.encode()

    @property
    def allows_actions(self) -> bool:
        """Whether there is a token with which one may act."""
        return bool(self._token)

    def check_host(self, request: Request) -> None:
        """Refuse a request for a name that leads here by another site's wish.

        Raises:
            Refused: Status 421.
        """
        if not self._only_local or _is_local(request.header("host")):
            return
        is_read = request.path in _WITHOUT_HOST and request.method in {"GET", "HEAD"}
        if not is_read or request.has_header("host"):
            raise Refused(421, "this dashboard is at a loopback address: use http://127.0.0.1 or http://localhost")

    def check_token(self, request: Request) -> None:
        """Refuse an action without the token, in the same time for each wrong one.

        Raises:
            Refused: Status 401 or 403.
        """
        if not self._token:
            raise Refused(403, "actions are not allowed: start the dashboard with --allow-actions")
        scheme, _, token = request.header("authorization").partition(" ")
        given = token.strip().encode("latin-1", "replace") if scheme.lower() == "bearer" else b""
        if not hmac.compare_digest(given, self._token):
            raise Refused(401, "the token is wrong: open the URL that the dashboard printed at its start")


def _is_local(host: str) -> bool:
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match[1] or match[2]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.lower() == "localhost"
    return True  # a number leads nowhere else, whatever a name server says
