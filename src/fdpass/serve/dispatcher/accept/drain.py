"""`Drain`: at a stop, which listeners' backlogs are still to be accepted, and how much of them. Pure."""

from __future__ import annotations

from collections.abc import Callable

MOST_DRAINED = 4096
"""How many connections a drain accepts at each listener: the kernel's usual bound of a backlog
(net.core.somaxconn). Without a bound clients that connect as fast as they are served would put off the end."""


class Drain:
    """Counts down what is still to be accepted.

    Args:
        listeners: How many listeners there are.
        then: Called by the acceptor when the drain is over.

    Attributes:
        then: As above.
        open: Indices of the listeners whose backlog is not known to be empty.
    """

    def __init__(self, listeners: int, then: Callable[[], None]) -> None:
        self.then = then
        self.open = dict.fromkeys(range(listeners), MOST_DRAINED)  # and how many more are accepted there

    def accepted(self, index: int, count: int) -> None:
        """So many connections were accepted at a listener."""
        if index in self.open:
            self.open[index] -= count
            if self.open[index] <= 0:
                del self.open[index]

    def empty(self, index: int) -> None:
        """A listener's backlog is empty."""
        self.open.pop(index, None)
