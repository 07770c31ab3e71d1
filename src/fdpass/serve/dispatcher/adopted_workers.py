"""`AdoptedWorkers`: what a new dispatcher tells the workers of the dead one, and what it does once they answer."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from fdpass._words import counted
from fdpass.serve.dispatcher.accept.base import Acceptor
from fdpass.serve.dispatcher.adoption import Adopting
from fdpass.serve.dispatcher.pool.pool import Pool
from fdpass.serve.dispatcher.pool.worker_handle import State, WorkerHandle
from fdpass.serve.shared import messages
from fdpass.serve.shared.events import Event, about

log = logging.getLogger("fdpass.serve")


class AdoptedWorkers:
    """The workers that the dead dispatcher had started.

    Args:
        adoption: Takes over their connections.
        acceptor: Gives them connections, once they have answered.
        pool: Supervises them.
        serial: The serial number of this dispatcher.
    """

    def __init__(self, adoption: Adopting, acceptor: Acceptor, pool: Pool, serial: int) -> None:
        self._adoption = adoption
        self._acceptor = acceptor
        self._pool = pool
        self._serial = serial

    def begin(
        self, watch: Callable[[WorkerHandle], None], accepted: Iterable[tuple[int, Any]], *, upgraded: bool
    ) -> None:
        """Take over the workers, and all connections that no worker has.

        Args:
            watch: Reads the messages of a worker from now on.
            accepted: See `Adoption.begin`. Given.
            upgraded: The dispatcher of before has quiesced for an upgrade.
        """
        began = time.monotonic()
        workers = self._pool.adopt()
        live = self._adoption.begin({worker.row for worker in workers}, accepted)
        for worker in workers:
            watch(worker)
            self._greet(worker)
        log.log(
            logging.INFO if upgraded else logging.WARNING,
            "dispatcher %d takes over from %s: %s, %s, %.1f ms",
            os.getpid(),
            "one that has quiesced" if upgraded else "a dead one",
            counted(len(workers), "worker"),
            counted(live, "connection"),
            (time.monotonic() - began) * 1000,
            extra=about(Event.DISPATCHER_ADOPTED),
        )

    def _greet(self, worker: WorkerHandle) -> None:
        """Tell a worker what the dead dispatcher may not have told it, and ask what the worker has."""
        candidate = self._pool.candidate
        is_candidates = candidate is not None and worker.generation == candidate.number
        generation = candidate if candidate is not None and is_candidates else self._pool.current
        self._acceptor.know(worker)
        if worker.state is State.STARTING and not worker.is_set_up:
            worker.kill()  # another is started in its place
        worker.send_or_queue(messages.sync(self._serial))
        if generation.access_log.fd is not None:
            worker.send_or_queue(messages.LOG, [generation.access_log.fd.fileno()])
        if worker.state is State.RETIRING:
            worker.send_or_queue(messages.RETIRE)

    def on_synced(self, worker: WorkerHandle, serial: int, leaving: bool) -> None:
        """A worker has sent SYNCED: decide about its connections, and let it get others.

        Args:
            worker: The worker.
            serial: The serial number that SYNCED has.
            leaving: The worker has sent LEAVING.
        """
        if worker.synced or serial != self._serial:
            return
        self._acceptor.read_ended()
        self._adoption.settle(worker)
        worker.synced = True
        if worker.state is State.STARTING:
            self._pool.on_ready(worker)  # the dead dispatcher had read READY
        elif worker.state is State.READY and worker.active:
            self._acceptor.add(worker)
        if leaving and not worker.to_retire:
            self._pool.replace(worker)
        self._acceptor.proceed()
