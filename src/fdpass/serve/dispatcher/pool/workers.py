"""`Workers`: all workers that have not ended, by row of the ledger and by generation."""

from __future__ import annotations

from collections.abc import Sequence

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

    def too_many(self, generation: Generation, live_of: Sequence[int]) -> list[WorkerHandle]:
        """The workers that a generation has beyond those it should have.

        First those that are starting, then spare ones, then those with fewest connections.

        Args:
            generation: The generation.
            live_of: How many connections the worker in each row of the ledger has.
        """
        found = self.staying(generation)
        found.sort(key=lambda one: (one.state is State.READY, one.active, live_of[one.row], -one.started_at))
        return found[: max(0, len(found) - generation.size)]

    def are_full(self, generation: Generation) -> bool:
        """Whether as many workers of a generation are ready as it should have."""
        return len(self.ready(generation)) >= generation.size

    def can_take_over(self, candidate: Generation) -> bool:
        """Whether the next generation serves from now on: it is full, or it alone has workers that can serve."""
        serving = any(worker.active and worker.state is State.READY for worker in self._by_row.values())
        return self.are_full(candidate) or (not serving and bool(self.ready(candidate)))

    def count_starting(self) -> int:
        """How many workers are starting."""
        return sum(worker.state is State.STARTING for worker in self._by_row.values())
