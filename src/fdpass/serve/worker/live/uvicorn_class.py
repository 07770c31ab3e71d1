"""What fdpass reads and sets in objects of uvicorn's three WebSocket classes."""

from __future__ import annotations

from typing import Any


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
