"""`Generation`: what the workers of one state of the code share; `Generations`: how one follows another."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from fdpass._fd import Fd
from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.lasting import store, stored
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.keeper.estate import Estate, Head
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
        access_log: The access log of the first generation. Given; not used if the estate has generations.
        estate: Has the generations, for the next dispatcher. Lent.

    Attributes:
        current: The generation that serves.
        candidate: The generation that a reload has started; None if no reload is in progress.
    """

    def __init__(self, config: Config, access_log: AccessLog, estate: Estate) -> None:
        self._estate = estate
        self._outcome: Outcome | None = None
        self.current = Generation(1, config, config.workers, access_log)
        self.candidate: Generation | None = None
        found = stored_generations(estate)
        if found:
            self.current = _read(found[0])
            self.candidate = _read(found[1]) if found[1] else None
        else:
            self._store()

    def _store(self) -> None:
        """Store both generations in the estate: another dispatcher may have to go on with them."""
        both = [_written(self.current), self.candidate and _written(self.candidate)]
        store(self._estate, Head.GENERATIONS, both, "fdpass-generations")

    def resume(self, outcome: Outcome) -> None:
        """Report the outcome of a reload that a dead dispatcher had begun, if there is one."""
        if self.candidate is not None:
            self._outcome = outcome

    def begin(self, config: Config, access_log: AccessLog, outcome: Outcome, folder: str) -> Generation:
        """Make the candidate; see `Pool.reload`."""
        current = self.current
        same = config.workers == current.config.workers
        target = current.target if same else config.workers  # a number set by `scale` stays in force
        self.candidate = Generation(current.number + 1, config, target, access_log, folder)
        self._outcome = outcome
        self._store()
        return self.candidate

    def switch(self, workers: Iterable[WorkerHandle]) -> None:
        """Make the candidate the current generation. Older workers log to its access log from now on.

        Args:
            workers: All workers.
        """
        before = self.current
        assert self.candidate is not None
        self.current, self.candidate = self.candidate, None
        self._store()
        self._lend_logs(workers)
        before.access_log.close()

    def drop_candidate(self) -> None:
        """Give the candidate up, if there is one, and close its access log."""
        candidate, self.candidate = self.candidate, None
        if candidate is not None:
            self._store()
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
        self._store()

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
        os.close(self._estate.take_fd(Head.GENERATIONS))
        self._estate.head[Head.GENERATIONS] = 0


def stored_generations(estate: Estate) -> Any:
    """What the estate has of the current generation and of the candidate; None if it has nothing yet."""
    return stored(estate, Head.GENERATIONS)


def stored_logs(estate: Estate) -> set[int]:
    """The descriptors of the access logs of the generations in the estate."""
    found = stored_generations(estate) or []
    return {each["access_log"] for each in found if each and each["access_log"] is not None}


def _written(generation: Generation) -> dict[str, Any]:
    fd = generation.access_log.fd
    return {
        "number": generation.number,
        "config": dataclasses.asdict(generation.config),
        "target": generation.target,
        "folder": generation.folder,
        "access_log": None if fd is None else fd.fileno(),
    }


def _read(found: Any) -> Generation:
    config = Config.of(found["config"])
    number = found["access_log"]
    access_log = AccessLog(config.access_log, config.access_log_format, None if number is None else Fd(number))
    return Generation(found["number"], config, found["target"], access_log, found["folder"])
