"""`ByteCounts`: how many bytes of requests and responses went over connections in custody, by their slots. Pure.

Workers keep these positions for custody, so that the count costs a request nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from fdpass.serve.shared.slots import BASE, FINAL_BASE, FINAL_END, POSITION, UNFINISHED, WORDS, WRITTEN


class ByteCounts:
    """Bytes as far as requests are over; a connection that is not in custody any more counts up to there.

    Args:
        words: The slots of all connections. Lent.
        received, sent: Of connections that dispatchers before this one have ended.

    Attributes:
        received, sent: Of connections that have ended.
    """

    __slots__ = ("_words", "received", "sent")

    def __init__(self, words: memoryview, received: int = 0, sent: int = 0) -> None:
        self._words = words
        self.received, self.sent = received, sent

    def add(self, slot: int) -> None:
        """Add the bytes of a connection that ends."""
        self.received, self.sent = self.total([slot])

    def total(self, slots: Iterable[int]) -> tuple[int, int]:
        """Return the bytes received and sent: those of ended connections, and of those in these slots."""
        words, received, sent = self._words, self.received, self.sent
        for slot in slots:
            start = slot * WORDS
            end = words[start + FINAL_END] & POSITION
            if end and end != UNFINISHED:  # the last response, after which nothing is committed
                received += words[start + FINAL_BASE]
                sent += end
            else:
                received += words[start + BASE]
                sent += words[start + WRITTEN] & POSITION
        return received, sent
