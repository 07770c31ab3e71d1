"""The request that a worker had when it died: method, path and client, and the log's line; the 502 for it."""

from __future__ import annotations

import logging
import mmap
import os
import re
import socket
from typing import Any

from fdpass.serve.dispatcher.outcome_texts import DURING_STREAM, EVENTS, LOGGED, TEXT
from fdpass.serve.dispatcher.recovery import Action, Decision
from fdpass.serve.shared import pages
from fdpass.serve.shared.client_words import stored_client
from fdpass.serve.shared.events import about
from fdpass.serve.shared.slots import (
    BASE,
    BUFFER,
    BUFFER_SIZE,
    FINAL_END,
    FLAGS,
    OPEN,
    ORIGIN,
    WRITTEN,
    Flag,
)

log = logging.getLogger("fdpass.serve")

REASON_502 = b"The process that worked on this request ended.\n"
RESPONSE_502 = (
    b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
    % (len(REASON_502), REASON_502)
)

_LINE_MAX = 4096  # bytes of the first line that are looked at
_FIRST_LINE = re.compile(rb"(?:\r\n)*([A-Z-]+) ([^ \r\n]+)(?: HTTP/([0-9.]+)\r\n)?").match


def begun(words: memoryview, buffers: mmap.mmap | None) -> bytes:
    """The start of the request in progress, from the dead worker's buffer; b"" if it is not there (any more)."""
    start = words[BASE] - words[ORIGIN]
    if buffers is None or not (0 < words[BUFFER] <= len(buffers) // BUFFER_SIZE and 0 <= start < BUFFER_SIZE):
        return b""
    buffer = (words[BUFFER] - 1) * BUFFER_SIZE
    return buffers[buffer + start : buffer + min(start + _LINE_MAX, BUFFER_SIZE)]


def scope_of(words: memoryview, peer: Any, data: bytes) -> dict[str, Any]:
    """What is known of a request, as a scope of ASGI for the access log.

    Args:
        words: The connection's slot.
        peer: The address of the peer, who may be a proxy.
        data: The start of the request.
    """
    client = stored_client(words) or (peer if isinstance(peer, tuple) else None)
    line = None if words[FLAGS] & Flag.STREAM else _FIRST_LINE(data)
    method, target, version = line.groups() if line else (b"-", b"-", b"")
    path, _, query = target.partition(b"?")
    return {
        "client": client,
        "method": method.decode(),
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "http_version": (version or b"1.1").decode(),
    }


def named(scope: dict[str, Any]) -> str:
    """The request, if it is known, and its client: for the log, so control characters are escaped."""
    client = scope["client"]
    name = f"{client[0]}:{client[1]}" if client else "of a Unix socket"
    request = "" if scope["method"] == "-" else f"{scope['method']} {ascii(scope['path'])[1:-1]}, "
    return f"{request}client {name}"


def client_of(fd: int) -> Any:
    """The client's address of a connection; None if the connection is no longer connected."""
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            return sock.getpeername()
    except OSError:
        return None


def log_outcome(
    slot: int, words: memoryview, fd: int, *, memory: mmap.mmap, action: Action, decision: Decision, data: bytes
) -> dict[str, Any]:
    """Log what is done with a connection of a dead worker, if its client may notice it; return its request.

    Args:
        slot: The number of the slot.
        words: The slot.
        fd: The connection. Lent.
        memory: All pages.
        action: What is done.
        decision: The reason.
        data: The start of the request in progress.
    """
    if decision.action not in LOGGED:
        return {}
    level, why = LOGGED[decision.action]
    if (words[WRITTEN] | words[FINAL_END]) & OPEN:
        data = pages.load(memory, slot).head
        if decision.reason:
            why = DURING_STREAM
        elif decision.action is Action.RESET:
            part = (
                "a message"
                if pages.kind_of(memory, slot) == pages.WEBSOCKET
                else "an event, or the events have no ids"
            )
            why = f"its worker died in the middle of {part}"
    scope = scope_of(words, client_of(fd), data)
    extra = about(EVENTS[action], connection=slot)
    log.log(level, TEXT, slot, action.value, why, decision.reason, named(scope), extra=extra)
    return scope
