"""`Owner`: what the pool of workers asks of the dispatcher, and reports to it."""

from __future__ import annotations

from typing import Protocol

from fdpass._fd import Fd
from fdpass.serve.dispatcher.pool.generation import Generation
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle


class Owner(Protocol):
    """The dispatcher, as its pool sees it."""

    def make_buffers(self) -> Fd | None:
        """Make the memory for the receive buffers of a new worker; None without custody. Given."""

    def set_up(self, worker: WorkerHandle, generation: Generation) -> bool:
        """Send a new worker its set-up. False if the message could not be sent."""

    def activate(self, worker: WorkerHandle) -> None:
        """Let a worker get connections."""

    def deactivate(self, worker: WorkerHandle) -> None:
        """Let a worker get no more connections."""

    def recover(self, worker: WorkerHandle) -> str:
        """A worker has ended: decide about its connections. What is returned is that of `Acceptor.recover`."""

    def has_waiting(self) -> bool:
        """Whether connections wait for a worker."""

    def workers_changed(self) -> None:
        """Workers have started, become ready, failed or ended."""
