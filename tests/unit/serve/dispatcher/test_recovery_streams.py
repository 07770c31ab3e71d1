"""`recovery.decide` for open streams: each row of their table, its bounds, and what a worker cannot make it do."""

import itertools
import random

import pytest

from fdpass.serve.dispatcher.recovery import MOST_ATTEMPTS, Action, Decision, Facts, decide, is_given, is_idle
from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    BUFFER,
    BUFFER_SIZE,
    CALLED_BEFORE,
    FINAL,
    FINAL_BASE,
    FINAL_END,
    FLAGS,
    GIVEN,
    OPEN,
    ORIGIN,
    POSITION,
    READ,
    REDELIVER,
    SECOND,
    UNFINISHED,
    WORDS,
    WRITTEN,
    WROTE,
    Flag,
)

PLACES = {"base": BASE, "written": WRITTEN, "final_base": FINAL_BASE, "final_end": FINAL_END, "flags": FLAGS}
PLACES |= {"attempt": ATTEMPT, "buffer": BUFFER, "origin": ORIGIN, "given": GIVEN, "read": READ}
SAFE = Flag.CALLED | Flag.SAFE | Flag.IDEMPOTENT


def words(**named):
    """A stream whose application is done with 1000 bytes, and that has written 5000; no more bytes have come."""
    slot = [0] * WORDS
    for name, value in ({"base": 1000, "written": 5000 | OPEN, "read": 1000} | named).items():
        slot[PLACES[name]] = int(value)
    return slot


def buffered(**named):
    """The same, and 40 bytes have come into buffer 1."""
    return words(**{"buffer": 1, "origin": 1000, "read": 1040} | named)


def decided(slot, read=1040, wrote=5000, **facts):
    decision = decide(slot, Facts(True, read, wrote, **facts), "safe")
    assert decision.reason or decision.action is not Action.RESTART
    return decision._replace(reason="")


IDLE = Decision(Action.IDLE, 1000, 5000 | OPEN)
GOES_ON = Decision(Action.REPLAY, 1000, 5000 | OPEN, 0, 40)
RESTART = Decision(Action.RESTART)
RESET = Decision(Action.RESET)
SENT = {"final_base": 1000, "final_end": 5100 | OPEN}
DONE = {"final_base": 1040, "final_end": 5100 | OPEN | SECOND}

ROWS = {
    "1: the client has gone": (buffered(), {"open": False}, Decision(Action.FINISH)),
    "1: nonsense": (words(given=-1), {}, RESET),
    "3: a close frame is out": (
        words(flags=Flag.CLOSING, **SENT),
        {"read": 1000, "wrote": 5100},
        Decision(Action.FINISH),
    ),
    "3: a close frame is not out": (words(flags=Flag.CLOSING, **SENT), {"read": 1000}, IDLE),
    "4: a part of a close frame": (words(flags=Flag.CLOSING, **SENT), {"read": 1000, "wrote": 5001}, RESET),
    "4: a part of a frame": (words(**SENT), {"read": 1000, "wrote": 5099}, RESET),
    "4: more than a frame": (words(**SENT), {"read": 1000, "wrote": 5101}, RESET),
    "4: what was written is not known": (words(), {"read": 1000, "wrote": None}, RESET),
    "4: a part of an event": (words(final_end=UNFINISHED | OPEN), {"read": 1000, "wrote": 5001}, RESET),
    "10: a message is in the application": (buffered(given=1020), {}, RESTART),
    "10: it was answered, and the next one was not asked for": (
        buffered(given=1040, **SENT),
        {"wrote": 5100},
        RESTART,
    ),
    "10: it was given again already": (buffered(given=1020 | REDELIVER, attempt=CALLED_BEFORE), {}, RESTART),
    "10: it may be given again, and was read into no buffer": (
        words(given=1020 | REDELIVER, flags=Flag.OVERFLOW, read=1040),
        {},
        RESTART,
    ),
    "11: four workers": (words(attempt=MOST_ATTEMPTS), {"read": 1000}, RESTART),
    "11: four workers, and a part of a message": (buffered(attempt=MOST_ATTEMPTS), {}, RESTART),
    "11: four workers, and handed bytes": (words(attempt=MOST_ATTEMPTS, read=1040), {"handed": 40}, RESTART),
    "12: bytes were handed": (
        words(attempt=2, read=1040),
        {"handed": 40},
        Decision(Action.REPLAY, 1000, 5000 | OPEN, attempt=2),
    ),
    "12: nothing was read": (words(attempt=2), {"read": 1000}, IDLE._replace(attempt=2)),
    "12: nothing was read on a Unix socket": (words(flags=Flag.READING), {"read": None}, IDLE),
    "12: bytes were handed on a Unix socket": (
        words(flags=Flag.READING, read=1040),
        {"read": None, "handed": 40},
        Decision(Action.REPLAY, 1000, 5000 | OPEN),
    ),
    "13: what was read is not known": (buffered(), {"read": None}, RESTART),
    "13: the counts differ": (buffered(), {"agreed": False}, RESTART),
    "13: the kernel counts bytes that the worker does not": (words(), {"read": 1001, "agreed": False}, RESTART),
    "14: nothing was read since": (buffered(), {"read": 1000}, IDLE),
    "14: half a message was read": (buffered(), {}, GOES_ON),
    "14: a message was read and not given": (buffered(given=1000), {}, GOES_ON),
    "14: a frame is out": (buffered(**SENT), {"wrote": 5100}, GOES_ON._replace(written=5100 | OPEN)),
    "14: a frame is not out": (buffered(**SENT), {}, GOES_ON),
    "14: a message may be given again": (
        buffered(given=1020 | REDELIVER),
        {},
        GOES_ON._replace(attempt=CALLED_BEFORE),
    ),
    "14: a part of the answers to a message that may be given again": (
        buffered(given=1020 | REDELIVER, attempt=1, **SENT),
        {"wrote": 5100},
        GOES_ON._replace(written=5100 | OPEN, attempt=CALLED_BEFORE + 1),
    ),
    "14: a commit with a message": (
        buffered(given=1040, **DONE),
        {"wrote": 5100},
        Decision(Action.IDLE, 1040, 5100 | OPEN | SECOND),
    ),
    "14: a commit with a message that is not out": (
        buffered(given=1040 | REDELIVER, **DONE),
        {},
        GOES_ON._replace(attempt=CALLED_BEFORE),
    ),
    "14: a commit without a message": (
        buffered(given=1040, final_base=1040, final_end=5000 | OPEN | SECOND | FINAL),
        {},
        Decision(Action.IDLE, 1040, 5000 | OPEN | SECOND),
    ),
    "14: the message begins before the buffer": (buffered(origin=1001), {}, RESTART),
    "14: no buffer was free": (words(flags=Flag.OVERFLOW, read=1040), {}, RESTART),
    "14: an event of a stream without ids was not begun": (
        words(final_end=UNFINISHED | OPEN),
        {"read": 1000},
        IDLE,
    ),
}


@pytest.mark.parametrize(("slot", "facts", "expected"), ROWS.values(), ids=ROWS)
def test_decide_follows_the_table_for_open_streams(slot, facts, expected):
    if not facts.get("open", True):
        assert decide(slot, Facts(False, None, None), "safe") == expected
        return
    assert decided(slot, **facts) == expected


def test_each_reason_of_a_restart_ends_a_sentence_about_the_stream():
    said = {decide(slot, Facts(True, *facts), "safe").reason for slot, *facts in [
        (buffered(given=1020), 1040, 5000),
        (buffered(given=1020 | REDELIVER, attempt=CALLED_BEFORE), 1040, 5000),
        (words(attempt=MOST_ATTEMPTS), 1000, 5000),
        (buffered(), None, 5000),
        (buffered(origin=1001), 1040, 5000),
    ]}  # fmt: skip
    assert len(said) == 5
    assert all(reason.split()[0] in {"with", "which", "of"} for reason in said)


# A stream opens


OPENING = {
    "base": 900,
    "origin": 900,
    "written": 4900,
    "flags": SAFE,
    "final_base": 1000,
    "final_end": 5000 | OPEN,
}


def test_before_its_101_is_out_a_websocket_is_a_request_that_may_be_repeated():
    slot = buffered(**OPENING)
    assert decided(slot, 1000, 4900) == Decision(Action.REPLAY, 900, 4900, 0, 100, 1 + CALLED_BEFORE)
    assert decided(slot, 1000, 4999) == RESET


def test_from_its_101_on_a_websocket_is_open_and_its_handshake_counts_no_more():
    slot = buffered(**OPENING, attempt=MOST_ATTEMPTS + CALLED_BEFORE)
    assert decided(slot, 1000, 5000) == IDLE
    assert decided(slot, 1040, 5000) == Decision(Action.REPLAY, 1000, 5000 | OPEN, 100, 140)


def test_a_handshake_that_was_handed_on_and_found_no_buffer_is_done_with_its_101():
    slot = words(**{**OPENING, "flags": SAFE | Flag.OVERFLOW, "read": 1000})
    assert decided(slot, 1000, 5000, handed=100) == IDLE


def test_the_end_of_an_event_stream_is_the_end_of_its_request():
    slot = words(flags=0, final_base=1000, final_end=5005)
    assert decided(slot, 1000, 5005) == Decision(Action.IDLE, 1000, 5005)
    assert decided(slot, 1000, 5000) == IDLE


# Progress


@pytest.mark.parametrize("attempt", range(MOST_ATTEMPTS))
def test_the_dispatcher_counts_no_attempt_of_a_stream(attempt):
    """The worker that continues the stream does: in the queue of a worker a stream has killed nobody."""
    assert decided(words(attempt=attempt), 1000).attempt == attempt
    assert decided(buffered(attempt=attempt)).attempt == attempt


@pytest.mark.parametrize(
    ("named", "wrote"), [(DONE, 5100), ({"final_base": 1000, "final_end": 5100 | OPEN | SECOND}, 5100)]
)
def test_a_commit_is_progress_though_the_worker_died_before_it_stored_so(named, wrote):
    slot = buffered(attempt=MOST_ATTEMPTS + CALLED_BEFORE, **named)
    assert decided(slot, 1040, wrote).attempt == 0


def test_a_message_that_was_sent_without_a_commit_is_no_progress():
    slot = buffered(given=1040 | REDELIVER, attempt=CALLED_BEFORE, **SENT)
    assert decided(slot, wrote=5100) == RESTART


def test_a_message_is_given_again_once_and_not_after_a_death_before_it_was_given():
    again = decided(buffered(given=1040 | REDELIVER))
    before = decided(words(attempt=again.attempt + 1, read=1040), handed=40)
    assert (before.action, before.attempt) == (Action.REPLAY, CALLED_BEFORE + 1)
    assert decided(buffered(given=1040 | REDELIVER, attempt=before.attempt + 1)) == RESTART


# The backlog


def test_the_backlog_counts_as_written_and_the_next_worker_writes_it():
    slot = buffered(**SENT)
    assert decided(slot, wrote=5060, unsent=40) == GOES_ON._replace(written=5100 | OPEN, unsent=40)
    assert decided(slot, wrote=5060, unsent=39) == RESET


def test_nothing_is_sent_in_the_middle_of_a_message():
    """FINISH would shut down without the rest of the close frame, and RESTART send a frame within another."""
    assert decided(words(flags=Flag.CLOSING, **SENT), 1000, 5060, unsent=40).action is Action.RESET
    assert decided(buffered(given=1040, **SENT), wrote=5060, unsent=40).action is Action.RESET


# The fast path


@pytest.mark.parametrize("place", [FLAGS, BUFFER, FINAL_END, ATTEMPT])
def test_an_open_stream_is_idle_as_a_connection_of_http_is(place):
    slot = words(given=1000 | REDELIVER)
    assert is_idle(slot)
    slot[place] = 1
    assert not is_idle(slot)


@pytest.mark.parametrize("bit", [0, REDELIVER])
def test_a_stream_with_a_message_in_the_application_is_not_idle_whatever_else_its_slot_says(bit):
    slot = words(given=1001 | bit)
    assert is_given(slot)
    assert not is_idle(slot)
    assert decided(slot, 1000) == RESTART


# Whatever a worker stores


def test_no_message_is_given_twice_or_forgotten_whatever_the_slot_says():
    flagged = [0, Flag.OVERFLOW, Flag.CLOSING, Flag.READING]
    givens = [0, 1000, 1020, 1040, 1020 | REDELIVER, 1040 | REDELIVER]
    ends = [{}, SENT, DONE, {"final_end": UNFINISHED | OPEN}]
    attempts = [0, MOST_ATTEMPTS, CALLED_BEFORE]
    for flags, given, end, attempt, buffer, read, wrote, handed in itertools.product(
        flagged, givens, ends, attempts, [0, 1], [None, 1000, 1040], [5000, 5050, 5100], [0, 40]
    ):
        slot = words(flags=flags, given=given, attempt=attempt, buffer=buffer, origin=1000, **end)
        decision = decide(slot, Facts(True, read, wrote, handed=handed), "safe")
        case = (slot, read, wrote, handed, decision)
        if decision.action in {Action.IDLE, Action.REPLAY}:
            assert decision.written & POSITION == wrote, case
            taken = decision.stop - decision.start or (handed if decision.action is Action.REPLAY else 0)
            assert read in {None, decision.base + taken}, case
            again = given & POSITION > decision.base
            assert not again or (given & REDELIVER and attempt < CALLED_BEFORE <= decision.attempt), case
        elif decision.action is Action.RESTART:
            assert wrote in {5000, end.get("final_end", 0) & POSITION}, case


def test_nonsense_in_a_slot_never_fails_and_fits_into_a_slot_again():
    made = random.Random(14)
    values = [0, 1, 40, 1000, 1040, 5000, BUFFER_SIZE, POSITION, POSITION - 5, OPEN, REDELIVER, SECOND, FINAL]
    values += [CALLED_BEFORE, CALLED_BEFORE - 1, 2**63 - 1, -1, -(2**63), 2**62 + 2**61 + 2**60 + 5000]
    for _ in range(10_000):
        slot = [made.choice(values) for _ in range(WORDS)]
        slot[WRITTEN] = made.choice([5000 | OPEN, 5000 | OPEN | SECOND, slot[WRITTEN]])
        slot[FLAGS] = made.choice([0, 0, *(int(flag) for flag in Flag), slot[FLAGS]])
        read, wrote = made.choice([None, 1000, 1040, slot[READ]]), made.choice([None, 5000, slot[WROTE]])
        facts = Facts(True, read, wrote, made.choice([0, 40]), made.random() < 0.5, made.choice([0, 0, 40]))
        is_idle(slot)
        decision = decide(slot, facts, "safe")
        for value in (decision.base, decision.written, decision.attempt, decision.base + BUFFER_SIZE):
            assert -(2**63) <= value < 2**63, (slot, facts, decision)
        assert 0 <= decision.start <= decision.stop <= BUFFER_SIZE, (slot, facts, decision)
