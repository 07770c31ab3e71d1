"""`WorkerMessages`: reads what workers say on their channels, and gives each word to whom it concerns."""

from __future__ import annotations

import json
import logging
import socket
import sys
from typing import Any

from fdpass.errors import FdpassError, ProtocolError
from fdpass.serve.dispatcher.accept.base import Accepting
from fdpass.serve.dispatcher.loop import Loop
from fdpass.serve.dispatcher.pool.pool import Pool
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.shared import messages

log = logging.getLogger("fdpass.serve")
_DONTWAIT = int(socket.MSG_DONTWAIT)
_MOST_PULLS = 64


class WorkerMessages:
    """The dispatcher's ear at the channels.

    Args:
        loop: Where the channels are watched.
        accepting: Hears of connections.
        pool: Hears of the workers' own lives.
    """

    def __init__(self, loop: Loop, accepting: Accepting, pool: Pool) -> None:
        self._loop = loop
        self._accepting = accepting
        self._pool = pool

    def watch(self, member: WorkerHandle) -> None:
        """Listen to a worker from now on."""
        self._loop.watch(member.talk.sock.fileno(), lambda: self._read(member))

    def read_last(self, member: WorkerHandle) -> None:
        """A worker has ended: read all of its last words. A connection that it gave back is no longer its own."""
        self._read(member, most=sys.maxsize)
        self._loop.unwatch(member.talk.sock.fileno())

    def _read(self, member: WorkerHandle, *, most: int = _MOST_PULLS) -> None:
        talk = member.talk
        try:
            for _ in range(most):
                if not talk.pull(_DONTWAIT) or talk.ended:
                    break
            while talk.inbox:
                self._hear(member, talk.take().data)
        except (FdpassError, ValueError, RecursionError) as error:
            # Its messages are a stranger's: a worker that sends nonsense is not to be trusted with connections.
            log.error("worker %d is killed: %s", member.pid, error)  # noqa: TRY400 - its nonsense, not our traceback
            self._loop.unwatch(talk.sock.fileno())
            member.kill()
        if talk.ended:
            self._loop.unwatch(talk.sock.fileno())

    def _hear(self, member: WorkerHandle, data: bytes) -> None:
        word = data[:1]
        if word == messages.READY:
            self._pool.on_ready(member)
        elif word == messages.FAILED:
            member.failure = _failure(data)
        elif word == messages.LEAVING:
            self._pool.on_leaving(member)
        elif not self._accepting.told(member, word, data):
            raise ProtocolError(f"it sent a message of an unknown kind: {data[:16]!r}")


def _failure(data: bytes) -> dict[str, Any]:
    told = json.loads(data[1:])
    if not isinstance(told, dict):
        raise ProtocolError("it says nothing sensible about why it did not start")
    return {
        "sentence": str(told.get("sentence", "")),
        "details": str(told.get("details", "")),
        "final": told.get("final") is True,
    }
