"""What fdpass reads and sets in objects of uvicorn's three WebSocket classes."""

from __future__ import annotations

import logging
from typing import Any

from fdpass.serve.worker.http.response import refusal
from fdpass.serve.worker.http.scope import name_of

log = logging.getLogger("fdpass.serve")


def give_handshake(protocol: Any, handshake: bytes) -> None:
    """Give a new protocol the handshake, and refuse what its class takes for malformed and does not answer.

    The present implementation of the package websockets reads at most 128 header lines, none of them longer than
    8190 bytes; uvicorn's class on it says nothing to a client that sends more.

    Args:
        protocol: As for `forget_context`; it is connected.
        handshake: The head of the request.
    """
    protocol.data_received(handshake)
    error, transport = getattr(getattr(protocol, "conn", None), "handshake_exc", None), protocol.transport
    if error is None or transport.is_closing():
        return
    from websockets.exceptions import SecurityError  # noqa: PLC0415 - the package may be missing

    cause = error.__cause__ or error
    status = 431 if isinstance(cause, SecurityError) else 400
    log.warning("%s gets a %d: the handshake of a WebSocket: %s", name_of(protocol.client), status, cause)
    date = b"".join([b"%b: %b\r\n" % header for header in protocol.default_headers])
    transport.linger()
    transport.write(refusal(date, status))
    transport.close()


def forget_context(protocol: Any) -> None:
    """Let a protocol agree to compression only without context takeover, in both directions (RFC 7692, 7.1.1).

    Otherwise each message would need those before it, which the next worker has not seen. Before the handshake.

    Args:
        protocol: A new object of a class of uvicorn's: on the package websockets, its old or its present
            implementation, or on wsproto.
    """
    connection = getattr(protocol, "conn", protocol)
    if hasattr(connection, "available_extensions"):
        for factory in connection.available_extensions or ():
            factory.server_no_context_takeover = factory.client_no_context_takeover = True
    else:
        _forget_in_wsproto(connection)


def is_open(protocol: Any) -> bool:
    """Whether the handshake of a WebSocket is complete, so that its client can be sent a close frame.

    Args:
        protocol: As for `forget_context`.
    """
    completed = getattr(protocol, "handshake_completed_event", None)
    return bool(protocol.handshake_complete if completed is None else completed.is_set())


def _forget_in_wsproto(connection: Any) -> None:
    """With wsproto, uvicorn makes the extension only for its answer to the handshake."""
    send = connection.send

    def send_accept(event: Any) -> Any:
        if hasattr(event, "extensions"):
            del connection.send
            for extension in event.extensions:
                extension.server_no_context_takeover = extension.client_no_context_takeover = True
        return send(event)

    connection.send = send_accept
