"""`Workers`: all workers that have not ended, by row of the ledger and by generation."""

from __future__ import annotations

from fdpass.serve.dispatcher.pool.generation import Generation
from fdpass.serve.dispatcher.pool.worker_handle import State, WorkerHandle
from fdpass.serve.shared.ledger import MOST_WORKERS


class Workers:
    """A set of workers."""

    def __init__(self) -> None:
        self._by_row: dict[int, WorkerHandle] = {}

    def all(self) -> list[WorkerHandle]:
        """All workers, in the order in which they were started."""
        return sorted(self._by_row.values(), key=lambda worker: worker.started_at)

    def add(self, worker: WorkerHandle) -> None:
        """Add a worker that was started."""
        self._by_row[worker.row] = worker

    def remove(self, worker: WorkerHandle) -> None:
        """Remove a worker that has ended."""
        del self._by_row[worker.row]

    def free_row(self) -> int:
        """The lowest row that no worker has."""
        return next(row for row in range(MOST_WORKERS) if row not in self._by_row)

    def staying(self, generation: Generation) -> list[WorkerHandle]:
        """The workers of a generation that are not to retire."""
        return [worker for worker in self.all() if worker.generation == generation.number and not worker.to_retire]

    def ready(self, generation: Generation) -> list[WorkerHandle]:
        """Those of them that are ready."""
        return [worker for worker in self.staying(generation) if worker.state is State.READY]

    def count_starting(self) -> int:
        """How many workers are starting."""
        return sum(worker.state is State.STARTING for worker in self._by_row.values())
