"""`Texts`: the part of the estate in which keeper, dispatcher and new code write about an upgrade. Pure."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

_SIZE = 4096  # a word with the length, and the text in UTF-8

TEXT_MAX = _SIZE - 8
"""Bytes of the longest text."""


class Text(IntEnum):
    """The texts.

    Attributes:
        REQUEST: What a client has asked for, as JSON. Stored before ASKED.
        REASON: The version of the new code; or why it does not start.
        OUTCOME: How the upgrade has ended, as JSON. Stored before ANSWERED.
    """

    REQUEST = 0
    REASON = 1
    OUTCOME = 2


TEXTS_SIZE = len(Text) * _SIZE
"""Bytes of all texts."""


class Texts:
    """Stores and reads the texts.

    Args:
        words: `TEXTS_SIZE` bytes of the estate. Given.

    Attributes:
        view: The same, as bytes.
    """

    def __init__(self, words: memoryview) -> None:
        self.view = words.cast("B")

    def __setitem__(self, text: Text, content: str) -> None:
        """Store a text; of a long one the end is cut off."""
        self._store(text, content.encode(errors="replace")[:TEXT_MAX])

    def store_json(self, text: Text, content: Mapping[str, Any]) -> None:
        """Store an object as JSON.

        Raises:
            ValueError: It is longer than `TEXT_MAX`.
        """
        data = json.dumps(content, ensure_ascii=False).encode(errors="replace")
        if len(data) > TEXT_MAX:
            raise ValueError(f"{len(data)} bytes, and {TEXT_MAX} are the most")
        self._store(text, data)

    def load_json(self, text: Text) -> dict[str, Any]:
        """Read an object that `store_json` has stored."""
        found: dict[str, Any] = json.loads(self[text])
        return found

    def _store(self, text: Text, data: bytes) -> None:
        start = text * _SIZE
        self.view[start : start + 8] = bytes(8)
        self.view[start + 8 : start + 8 + len(data)] = data
        self.view[start : start + 8] = len(data).to_bytes(8, sys.byteorder)

    def __getitem__(self, text: Text) -> str:
        """Read a text; an empty one if none was stored."""
        start = text * _SIZE
        length = int.from_bytes(self.view[start : start + 8], sys.byteorder)
        return bytes(self.view[start + 8 : start + 8 + length]).decode(errors="replace")
