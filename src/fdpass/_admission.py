"""Who is let in: a rule is asked about each connection before anything is read from it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from typing import Any

from fdpass._end import End
from fdpass._pair import socket_pair
from fdpass._peer import Peer, Rule

log = logging.getLogger("fdpass")


def check_options(channel_options: Mapping[str, Any]) -> None:
    """Let a mistake in the options of channels show now, and not at the first connection."""
    one, other = socket_pair("seqpacket")
    with one, other:
        End(one, **channel_options)


def admitted(sock: socket.socket, allow: Rule) -> bool:
    """Ask the rule about a fresh connection; one that it does not admit is closed, unread, and logged."""
    try:
        with Peer.of(sock) as peer:
            if _asked(allow, peer):
                return True
            log.warning("refused a connection from pid %d, uid %d, gid %d", peer.pid, peer.uid, peer.gid)
    except BaseException:
        sock.close()
        raise
    sock.close()
    return False


def _asked(allow: Rule, peer: Peer) -> bool:
    try:
        verdict = allow(peer)
        if verdict is not True and verdict is not False:  # a coroutine, say, would be true
            raise TypeError(f"an allow rule returns True or False, not {verdict!r}")  # noqa: TRY301 - logged below
    except Exception:
        # No stranger may end a server by being what its rule did not expect (an unknown uid, say).
        log.exception("the allow rule failed for pid %d, uid %d, gid %d", peer.pid, peer.uid, peer.gid)
        return False
    return verdict
