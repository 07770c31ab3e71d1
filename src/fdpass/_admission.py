"""Admission: the `allow` rule decides about each accepted connection before anything is read from it."""

from __future__ import annotations

import logging
import socket

from fdpass._peer import Peer, Rule

log = logging.getLogger("fdpass")


def admitted(sock: socket.socket, allow: Rule) -> bool:
    """Whether the rule admits the peer of ``sock``; if not, the connection is logged and closed, unread.

    Raises:
        CallFailed: The peer cannot be told (EMFILE, for instance). ``sock`` is closed.
    """
    try:
        with Peer.of(sock) as peer:
            if _verdict(allow, peer):
                return True
            log.warning("refused a connection from pid %d, uid %d, gid %d", peer.pid, peer.uid, peer.gid)
    except BaseException:
        sock.close()
        raise
    sock.close()
    return False


def _verdict(allow: Rule, peer: Peer) -> bool:
    try:
        verdict = allow(peer)
        if verdict is not True and verdict is not False:  # a coroutine, for instance, is true
            raise TypeError(f"an allow rule returns True or False, not {verdict!r}")  # noqa: TRY301 - logged below
    except Exception:
        # A peer that the rule's author did not foresee (an unknown uid, for instance) must not end the server.
        log.exception("the allow rule failed for pid %d, uid %d, gid %d", peer.pid, peer.uid, peer.gid)
        return False
    return verdict
