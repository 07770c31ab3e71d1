"""The state in a slot: what a raw handler or a WebSocket has committed, or the last id of an event stream.

A slot has room for two states. The bit SECOND of WRITTEN says which of them is in use (see `slots`).
"""

from __future__ import annotations

import struct

from fdpass.serve.shared.slots import SECOND, STATE_MAX, STATE_WORDS, STATES, WRITTEN

_WORD_SIZE = 8
_STATE = struct.Struct(f"=q{STATE_MAX}s")  # its length, and its bytes with zeros behind them


def load_state(words: memoryview) -> bytes:
    """The state in use."""
    start = STATES + (STATE_WORDS if words[WRITTEN] & SECOND else 0)
    return words[start + 1 : start + STATE_WORDS].tobytes()[: words[start]]


def store_state(words: memoryview, state: bytes) -> int:
    """Store a state of at most STATE_MAX bytes in the place that is not in use.

    Returns:
        SECOND or 0: the bit with which FINAL_END, and then WRITTEN, bring the state into use.
    """
    second = 0 if words[WRITTEN] & SECOND else SECOND
    start = STATES + (STATE_WORDS if second else 0)
    _STATE.pack_into(words, start * _WORD_SIZE, len(state), state)
    return second
