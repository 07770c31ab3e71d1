"""`Generation`: what the workers of one state of the code have in common; and how one takes over from another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.shared import messages
from fdpass.serve.shared.config import Config


@dataclass(frozen=True, slots=True)
class Generation:
    """All workers started from one state of the code.

    Attributes:
        number: From 1.
        config: Their settings.
        target: How many of them shall serve; ``spare`` more shall be ready.
        access_log: Where they log requests. Owned by the pool.
    """

    number: int
    config: Config
    target: int
    access_log: AccessLog


Outcome = Callable[[str], None]
"""Called once, when a reload has ended: with "" if the next generation serves, else with why it does not."""


class Generations:
    """The generation that serves, and while a reload goes on the one that shall take over.

    Args:
        config: The settings of the first generation.
        access_log: The access log of the first generation. Given.

    Attributes:
        current: The one that serves.
        candidate: The one that shall take over, if there is one.
    """

    def __init__(self, config: Config, access_log: AccessLog) -> None:
        self.current = Generation(1, config, config.workers, access_log)
        self.candidate: Generation | None = None
        self._then: Outcome | None = None

    def begin(self, config: Config, access_log: AccessLog, then: Outcome) -> Generation:
        """Have a candidate; see `Pool.reload`."""
        current = self.current
        same = config.workers == current.config.workers
        target = current.target if same else config.workers  # what `scale` said stands
        self.candidate = Generation(current.number + 1, config, target, access_log)
        self._then = then
        return self.candidate

    def switch(self, members: Iterable[WorkerHandle]) -> None:
        """The candidate serves from now on, and older workers log where it does.

        Args:
            members: All workers.
        """
        before = self.current
        assert self.candidate is not None
        self.current, self.candidate = self.candidate, None
        self._lend_logs(members)
        before.access_log.close()

    def drop(self) -> None:
        """The candidate, if there is one, shall not serve; its access log is closed."""
        candidate, self.candidate = self.candidate, None
        if candidate is not None:
            candidate.access_log.close()

    def tell(self, why: str) -> None:
        """Tell the outcome of the reload to whoever began it, once; see `Outcome`."""
        then, self._then = self._then, None
        if then is not None:
            then(why)

    def scale(self, target: int) -> None:
        """Have so many workers, in the next generation too."""
        self.current = replace(self.current, target=target)
        if self.candidate is not None:
            self.candidate = replace(self.candidate, target=target)

    def reopen_logs(self, members: Iterable[WorkerHandle]) -> None:
        """Open the access logs again, and let all workers write to the new files.

        Args:
            members: All workers.

        Raises:
            CallFailed: A file cannot be opened; the one before stays open.
        """
        for generation in filter(None, (self.current, self.candidate)):
            generation.access_log.reopen()
        self._lend_logs(members)

    def _lend_logs(self, members: Iterable[WorkerHandle]) -> None:
        for member in members:
            newer = self.candidate is not None and member.generation == self.candidate.number
            generation = self.candidate if newer else self.current
            if generation is not None and (file := generation.access_log.fd) is not None:
                member.tell(messages.LOG, [file.fileno()])

    def close(self) -> None:
        """Close the access logs."""
        self.drop()
        self.current.access_log.close()
