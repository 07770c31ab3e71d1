"""`WorkerMessages`: reads the messages of workers, and passes each to the acceptor or the pool."""

from __future__ import annotations

import json
import logging
import socket
import sys
from collections.abc import Callable
from typing import Any

from fdpass._supervision.loop import Loop
from fdpass.errors import FdpassError, ProtocolError
from fdpass.serve.dispatcher.accept.base import Acceptor
from fdpass.serve.dispatcher.pool.pool import Pool
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.shared import messages
from fdpass.serve.shared.events import Event

log = logging.getLogger("fdpass.serve")
_DONTWAIT = int(socket.MSG_DONTWAIT)
_MOST_MESSAGES = 64  # of one worker, before the loop handles other events


class WorkerMessages:
    """Reads the channels of all workers.

    Args:
        loop: Event loop; watches the channels.
        acceptor: Gets the messages about connections.
        pool: Gets the messages about the workers themselves.
        on_synced: Called with the content of SYNCED.
    """

    def __init__(
        self, loop: Loop, acceptor: Acceptor, pool: Pool, on_synced: Callable[[WorkerHandle, int, bool], None]
    ) -> None:
        self._on_synced = on_synced
        self._loop = loop
        self._acceptor = acceptor
        self._pool = pool

    def watch(self, worker: WorkerHandle) -> None:
        """Read the messages of a worker from now on."""
        self._loop.watch(worker.conversation.sock.fileno(), lambda: self._read(worker))

    def read_last(self, worker: WorkerHandle) -> None:
        """Read all remaining messages of a worker that has ended: it may have given connections back."""
        self._read(worker, most=sys.maxsize)
        self._loop.unwatch(worker.conversation.sock.fileno())

    def _read(self, worker: WorkerHandle, *, most: int = _MOST_MESSAGES) -> None:
        conversation = worker.conversation
        try:
            for _ in range(most):
                if not conversation.pull(_DONTWAIT) or conversation.ended:
                    break
            while conversation.inbox:
                self._on_message(worker, conversation.take().data)
        except (FdpassError, ValueError, RecursionError) as error:
            # A worker that sends nonsense must not have connections: the fault can be anywhere in its memory.
            extra = worker.about(Event.WORKER_KILLED, cause="nonsense")
            log.error("worker %d is killed: %s", worker.pid, error, extra=extra)  # noqa: TRY400 - no traceback of ours
            self._loop.unwatch(conversation.sock.fileno())
            worker.kill("nonsense")
        if conversation.ended:
            self._loop.unwatch(conversation.sock.fileno())

    def _on_message(self, worker: WorkerHandle, data: bytes) -> None:
        kind = data[:1]
        if kind == messages.READY:
            worker.interface = data[1:].decode()
            self._pool.on_ready(worker)
        elif kind == messages.FAILED:
            self._pool.on_failed(worker, _failure(data))
        elif kind == messages.LEAVING:
            self._pool.replace(worker)
        elif kind == messages.SYNCED:
            self._on_synced(worker, *messages.synced_with(data))
        elif not self._acceptor.on_message(worker, kind, data):
            raise ProtocolError(f"it sent a message of an unknown kind: {data[:16]!r}")


def _failure(data: bytes) -> dict[str, Any]:
    report = json.loads(data[1:])
    if not isinstance(report, dict):
        raise ProtocolError("its report about why it did not start makes no sense")
    return {
        "sentence": str(report.get("sentence", "")),
        "details": str(report.get("details", "")),
    }
