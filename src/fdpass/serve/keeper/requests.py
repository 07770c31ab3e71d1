"""`Requests`: what an operator asks by signals, counted in the estate, so that a signal outlives a dispatcher.

The keeper gets the signal, adds 1 to a word, and wakes the dispatcher. The dispatcher adds 1 to the next word, and
acts.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping

from fdpass.serve.keeper.estate import Estate, Head

WAKE = signal.SIGUSR2
"""The signal with which the keeper tells the dispatcher that the estate has a new request."""

UPGRADE = signal.SIGUSR2
"""The signal with which an operator asks the keeper for an upgrade."""

NOTICE = signal.SIGRTMIN
"""The signal with which keeper, templates and dispatchers tell each other to look at the estate."""

QUIESCED = 75
"""Exit code of a dispatcher that has ended between two steps, as the keeper has asked it to."""

REQUESTS = {
    signal.SIGTERM: Head.STOPS,
    signal.SIGINT: Head.STOPS,
    signal.SIGQUIT: Head.STOPS,
    signal.SIGHUP: Head.RELOADS,
    signal.SIGUSR1: Head.REOPENS,
    signal.SIGTTIN: Head.MORE,
    signal.SIGTTOU: Head.FEWER,
}
"""The signals that are requests, and the words that count them."""


class Requests:
    """The requests, as a dispatcher sees them.

    Args:
        estate: Has the counts. Lent.
        callbacks: What to do at each signal.
    """

    def __init__(self, estate: Estate, callbacks: Mapping[int, Callable[[], None]]) -> None:
        self._head = estate.head
        self._callbacks = {REQUESTS[signal.Signals(number)]: act for number, act in callbacks.items()}

    def act(self) -> None:
        """Act on all requests that nobody has acted on."""
        head = self._head
        for word, callback in self._callbacks.items():
            while head[word + 1] < head[word]:
                head[word + 1] += 1
                callback()

    def act_again(self) -> None:
        """As `act`, in a new dispatcher, which has to stop if the dead one was stopping."""
        self._head[Head.STOPS + 1] = 0
        self.act()
