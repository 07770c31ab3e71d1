"""`Passing`: without custody, the dispatcher's descriptors of connections, until it has passed and closed them."""

from __future__ import annotations

from collections.abc import Container, Iterable

from fdpass._message import close_all
from fdpass.serve.keeper.estate import Estate, Head


class Passing:
    """The descriptors, as NUMBER in the estate: see step 8 in `keeper.estate`.

    Args:
        estate: Has the descriptors. Lent.
    """

    def __init__(self, estate: Estate) -> None:
        self._numbers = estate.numbers

    def keep(self, slot: int, fd: int) -> None:
        """Keep the descriptor of a connection that waits for a worker. Given."""
        self._numbers[slot] = fd + 1

    def fd(self, slot: int) -> int:
        """The descriptor of a connection; below 0 if there is none. Lent."""
        return self._numbers[slot] - 1

    def end(self, slots: Iterable[int]) -> None:
        """Close the descriptors of these connections, if there are any."""
        numbers = self._numbers
        slots = [slot for slot in slots if numbers[slot]]
        close_all(sorted(numbers[slot] - 1 for slot in slots))  # one system call for neighbours
        for slot in slots:
            numbers[slot] = 0


def forget_closed(estate: Estate, are_open: Container[int]) -> None:
    """Forget the descriptors that a dead dispatcher had closed: those that are not open now."""
    numbers = estate.numbers
    for slot, number in enumerate(numbers[: estate.head[Head.HIGH]].tolist()):
        if number and number - 1 not in are_open:
            numbers[slot] = 0
