"""The two states of a slot: which one is in force, and how the next one is written. Pure."""

from __future__ import annotations

from fdpass.serve.shared.slots import SECOND, STATE_MAX, STATE_WORDS, STATES, WRITTEN


def state_of(words: memoryview) -> bytes:
    """The state of the last commit."""
    start = STATES + (STATE_WORDS if words[WRITTEN] & SECOND else 0)
    return words[start + 1 : start + STATE_WORDS].tobytes()[: words[start]]


def write_state(words: memoryview, state: bytes) -> int:
    """Write a state where the one in force is not; returns the bit that brings it into force: SECOND, or 0."""
    second = 0 if words[WRITTEN] & SECOND else SECOND
    start = STATES + (STATE_WORDS if second else 0)
    words[start + 1 : start + STATE_WORDS] = memoryview(state.ljust(STATE_MAX, b"\0")).cast("q")
    words[start] = len(state)
    return second


def check_state(state: bytes) -> bytes:
    """A copy of a state that an application commits.

    Raises:
        ValueError: It is too long.
    """
    if len(state) > STATE_MAX:
        raise ValueError(f"a state has at most {STATE_MAX} bytes, not {len(state)}")
    return bytes(state)
