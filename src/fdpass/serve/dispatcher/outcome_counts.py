"""`OutcomeCounts`: how often each thing was done with connections of workers, for all dispatchers."""

from __future__ import annotations

from collections import Counter

from fdpass.serve.dispatcher.recovery import Action
from fdpass.serve.keeper.estate import Estate, Head
from fdpass.serve.shared.slots import OPEN

_ACTIONS = list(Action)
_OUTCOMES, _RESUMED = int(Head.OUTCOMES), int(Head.RESUMED)


class OutcomeCounts:
    """Counts connections of dead workers by what was done with them; IDLE also counts those that were given back.

    Open streams that another worker gets are in ``resumed`` instead.

    Args:
        estate: Has the counts. Lent.
    """

    def __init__(self, estate: Estate) -> None:
        self._head = estate.head

    def __getitem__(self, action: Action) -> int:
        """How many connections this was done with."""
        return self._head[_OUTCOMES + _ACTIONS.index(action)]

    @property
    def resumed(self) -> int:
        """How many times an open stream was handed to another worker."""
        return self._head[_RESUMED]

    def add(self, action: Action) -> None:
        """Count a connection with which this was done."""
        self._head[_OUTCOMES + _ACTIONS.index(action)] += 1

    def add_handed_on(self, action: Action, written: int) -> None:
        """Count a connection that another worker gets with this WRITTEN."""
        if written & OPEN:
            self._head[_RESUMED] += 1
        else:
            self.add(action)

    def known(self) -> dict[Action, int]:
        """The counts that are not 0, without open streams that another worker gets."""
        return {action: self[action] for action in Action if self[action]}

    def in_words(self) -> Counter[str]:
        """All counts, by what happened, in words."""
        found: Counter[str] = Counter()
        for action in Action:
            found[action.value] = self[action]
            if action is Action.IDLE:
                found["resumed"] = self.resumed
        return found
