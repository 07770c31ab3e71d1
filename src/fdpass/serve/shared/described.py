"""`Described`: the number of a word in shared memory, with its writer and its meaning. Pure."""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class Described(IntEnum):
    """Base of the enumerations of words.

    Attributes:
        writer: The process that stores the word.
        meaning: What the word holds.
    """

    writer: str
    meaning: str

    def __new__(cls, value: int, writer: str, meaning: str) -> Self:
        """Make a number that carries its description."""
        word = int.__new__(cls, value)
        word._value_ = value
        word.writer, word.meaning = writer, meaning
        return word
