"""`Generation`: what the workers of one state of the code share; `Generations`: how one follows another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.shared import messages
from fdpass.serve.shared.config import Config


@dataclass(frozen=True, slots=True)
class Generation:
    """All workers that were started from one state of the code.

    Attributes:
        number: From 1.
        config: The settings of its workers.
        target: How many active workers it should have; ``config.spare`` more should be ready.
        access_log: The file to which its workers log requests. Owned by the pool.
        folder: Working folder of its workers; empty: that of the dispatcher.
    """

    number: int
    config: Config
    target: int
    access_log: AccessLog
    folder: str = ""

    @property
    def size(self) -> int:
        """How many workers it should have, spare ones included."""
        return self.target + self.config.spare


Outcome = Callable[[str], None]
"""Called once, when a reload has ended: with "" if the next generation serves, or else with the reason why not."""


class Generations:
    """The current generation, and during a reload the next one.

    Args:
        config: The settings of the first generation.
        access_log: The access log of the first generation. Given.

    Attributes:
        current: The generation that serves.
        candidate: The generation that a reload has started; None if no reload is in progress.
    """

    def __init__(self, config: Config, access_log: AccessLog) -> None:
        self.current = Generation(1, config, config.workers, access_log)
        self.candidate: Generation | None = None
        self._outcome: Outcome | None = None

    def begin(self, config: Config, access_log: AccessLog, outcome: Outcome, folder: str) -> Generation:
        """Make the candidate; see `Pool.reload`."""
        current = self.current
        same = config.workers == current.config.workers
        target = current.target if same else config.workers  # a number set by `scale` stays in force
        self.candidate = Generation(current.number + 1, config, target, access_log, folder)
        self._outcome = outcome
        return self.candidate

    def switch(self, workers: Iterable[WorkerHandle]) -> None:
        """Make the candidate the current generation. Older workers log to its access log from now on.

        Args:
            workers: All workers.
        """
        before = self.current
        assert self.candidate is not None
        self.current, self.candidate = self.candidate, None
        self._lend_logs(workers)
        before.access_log.close()

    def drop_candidate(self) -> None:
        """Give the candidate up, if there is one, and close its access log."""
        candidate, self.candidate = self.candidate, None
        if candidate is not None:
            candidate.access_log.close()

    def report(self, why: str) -> None:
        """Report how the reload has ended, once; see `Outcome`."""
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            outcome(why)

    def scale(self, target: int) -> None:
        """Set how many active workers there should be, in the candidate too."""
        self.current = replace(self.current, target=target)
        if self.candidate is not None:
            self.candidate = replace(self.candidate, target=target)

    def reopen_logs(self, workers: Iterable[WorkerHandle]) -> None:
        """Open the access logs again, and let all workers write to the new files.

        Args:
            workers: All workers.

        Raises:
            CallFailed: A file cannot be opened; the previous one stays open.
        """
        for generation in filter(None, (self.current, self.candidate)):
            generation.access_log.reopen()
        self._lend_logs(workers)

    def _lend_logs(self, workers: Iterable[WorkerHandle]) -> None:
        for worker in workers:
            is_candidates = self.candidate is not None and worker.generation == self.candidate.number
            generation = self.candidate if is_candidates else self.current
            if generation is not None and (file := generation.access_log.fd) is not None:
                worker.send_or_queue(messages.LOG, [file.fileno()])

    def close(self) -> None:
        """Close the access logs."""
        self.drop_candidate()
        self.current.access_log.close()
