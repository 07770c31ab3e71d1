"""`Restart`: a restart that an operator has asked for, and who waits for its outcome."""

from __future__ import annotations

from collections.abc import Callable

from fdpass._supervision.loop import Loop, Timer

RUN = 1.0
"""Seconds after which a program that does not say READY=1 has started."""


class Restart:
    """Tells once how a restart has ended.

    Args:
        loop: Event loop.
        tell: Called with "" when the program has started again, or else with the reason.
        awaits_ready: The program says READY=1 when it has started, as the process before has done.
    """

    def __init__(self, loop: Loop, tell: Callable[[str], None], *, awaits_ready: bool) -> None:
        self._loop = loop
        self._tell: Callable[[str], None] | None = tell
        self._awaits_ready = awaits_ready
        self._timer: Timer | None = None

    @property
    def over(self) -> bool:
        """Whether the outcome was told."""
        return self._tell is None

    def running(self) -> None:
        """The new process runs."""
        if not self._awaits_ready:
            self._timer = self._loop.call_later(RUN, self.end)

    def end(self, reason: str = "") -> None:
        """Tell the outcome, if it was not told yet."""
        if self._timer is not None:
            self._timer.cancel()
        if self._tell is not None:
            tell, self._tell = self._tell, None
            tell(reason)
