"""`Owner`: what the pool of workers needs of whoever passes them connections."""

from __future__ import annotations

from typing import Protocol

from fdpass._fd import Fd
from fdpass.serve.dispatcher.pool.generation import Generation
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle


class Owner(Protocol):
    """What the pool asks of its dispatcher, and tells it."""

    def buffers(self) -> Fd | None:
        """Memory for the receive buffers of a worker, if it needs any. Given."""

    def set_up(self, member: WorkerHandle, generation: Generation) -> bool:
        """A worker was started, and has to be told everything. False if the message could not be sent."""

    def ready(self, member: WorkerHandle) -> None:
        """A worker can take connections."""

    def leaving(self, member: WorkerHandle) -> None:
        """A worker gets no more connections."""

    def gone(self, member: WorkerHandle) -> str:
        """A worker has ended. Returns what became of its connections: "" if it had none."""

    def waits(self) -> bool:
        """Whether connections of an ended worker wait for others to take them."""

    def settled(self) -> None:
        """Something has ended that somebody may wait for: see `Pool.candidate`, `Pool.complete`."""
