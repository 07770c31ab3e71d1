"""What the log says when the time of a finishing worker is over, and something is cut."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fdpass.serve.shared.events import Event, about

log = logging.getLogger("fdpass.serve")


def log_cut(seconds: float, what: str, scope: Mapping[str, Any] | None = None) -> None:
    """Log that something was cut.

    Args:
        seconds: How much time it had.
        what: It: method and path, or a number of connections.
        scope: The ASGI scope of the request, which has the client's address.
    """
    client = scope and scope.get("client")
    where = f", client {client[0]}:{client[1]}" if client else ""
    text = "cut after %g s of graceful time (--graceful-timeout): %s%s"
    log.warning(text, seconds, what, where, extra=about(Event.REQUEST_CUT))
