"""`recovery.decide`: each row of its table, the bounds of a row, and which requests are repeated how often."""

import itertools

import pytest

from fdpass.serve.dispatcher.recovery import (
    MOST_ATTEMPTS,
    REPEATABLE,
    Action,
    Decision,
    Facts,
    agrees,
    decide,
    is_idle,
)
from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    BUFFER,
    BUFFER_SIZE,
    CALLED_BEFORE,
    CONTINUE,
    FINAL,
    FINAL_BASE,
    FINAL_END,
    FLAGS,
    ORIGIN,
    READ,
    SECOND,
    WORDS,
    WRITTEN,
    WROTE,
    Flag,
)

SAFE = Flag.CALLED | Flag.SAFE | Flag.IDEMPOTENT
IDEMPOTENT = Flag.CALLED | Flag.IDEMPOTENT
UNSAFE = Flag.CALLED


def words(**named):
    """A slot in which 1000 bytes were read and 5000 written before; what comes next is in buffer 1."""
    slot = [0] * WORDS
    places = {"base": BASE, "written": WRITTEN, "final_base": FINAL_BASE, "final_end": FINAL_END, "flags": FLAGS}
    places |= {"attempt": ATTEMPT, "buffer": BUFFER, "origin": ORIGIN}
    for name, value in ({"base": 1000, "written": 5000, "buffer": 1, "origin": 1000} | named).items():
        slot[places[name]] = int(value)
    return slot


IDLE = Decision(Action.IDLE, 1000, 5000)
REPLAY = Decision(Action.REPLAY, 1000, 5000, 0, 100, 1)
AGAIN = Decision(Action.REPLAY, 1000, 5000, 0, 100, 1 + CALLED_BEFORE)
DONE = {"final_base": 1100, "final_end": 5500}
ROWS = {
    "1: the peer has gone": ({}, Facts(False, None, None), Decision(Action.FINISH)),
    "1: the peer has gone from an opaque connection": (
        {"flags": Flag.OPAQUE},
        Facts(False, 1, 1),
        Decision(Action.FINISH),
    ),
    "2: opaque, nothing read or written": (
        {"flags": Flag.OPAQUE},
        Facts(True, 1000, 5000),
        Decision(Action.CLOSE),
    ),
    "2: opaque, what was read and written is not known": (
        {"flags": Flag.OPAQUE},
        Facts(True, None, None),
        Decision(Action.CLOSE),
    ),
    "2: opaque, the response is out": (
        {"flags": Flag.OPAQUE, **DONE},
        Facts(True, 1050, 5500),
        Decision(Action.CLOSE),
    ),
    "2: opaque, a part of the response is out": (
        {"flags": Flag.OPAQUE | UNSAFE},
        Facts(True, 1050, 5001),
        Decision(Action.RESET),
    ),
    "2: opaque, called, nothing written": (
        {"flags": Flag.OPAQUE | UNSAFE},
        Facts(True, 1050, 5000),
        Decision(Action.CLOSE),
    ),
    "2: opaque, a part of the response is out, its end is known": (
        {"flags": Flag.OPAQUE | UNSAFE, **DONE},
        Facts(True, 1050, 5499),
        Decision(Action.RESET),
    ),
    "2: opaque, called, the response is out": (
        {"flags": Flag.OPAQUE | UNSAFE, **DONE},
        Facts(True, 1050, 5500),
        Decision(Action.CLOSE),
    ),
    "2: opaque, called, what was written is not known": (
        {"flags": Flag.OPAQUE | UNSAFE},
        Facts(True, 1050, None),
        Decision(Action.RESET),
    ),
    "3: the connection ends with its response": (
        {"flags": SAFE | Flag.CLOSING, **DONE},
        Facts(True, 1100, 5500),
        Decision(Action.FINISH),
    ),
    "4: the last response lacks a byte": (
        {"flags": SAFE | Flag.CLOSING, **DONE},
        Facts(True, 1100, 5499),
        Decision(Action.RESET),
    ),
    "5: nothing read, nothing handed": (
        {"buffer": 0, "attempt": 2},
        Facts(True, 1000, 5000),
        IDLE._replace(attempt=2),
    ),
    "5: nothing read, bytes handed": (
        {"buffer": 0, "attempt": 2},
        Facts(True, 1040, 5000, handed=40),
        Decision(Action.REPLAY, 1000, 5000, attempt=2),
    ),
    "5: nothing begun on a Unix socket, what was read is not known": (
        {"buffer": 0},
        Facts(True, None, 5000),
        IDLE,
    ),
    "6: the counts of bytes read differ": (
        {},
        Facts(True, 1100, 5000, agreed=False),
        Decision(Action.ANSWER),
    ),
    "6: the counts differ behind a whole response": (
        {"flags": UNSAFE, **DONE},
        Facts(True, 1130, 5500, agreed=False),
        Decision(Action.ANSWER),
    ),
    "6: the counts differ though nothing more was read": (
        {},
        Facts(True, 1000, 5000, agreed=False),
        Decision(Action.ANSWER),
    ),
    "6: the counts differ for a raw handler": (
        {"flags": Flag.STREAM},
        Facts(True, 1100, 5000, agreed=False),
        Decision(Action.RESET),
    ),
    "6: what was read is not known": ({}, Facts(True, None, 5000), Decision(Action.RESET)),
    "7: nothing was read since the last response": ({}, Facts(True, 1000, 5000), IDLE),
    "7: the response is out": (
        {"flags": UNSAFE, **DONE},
        Facts(True, 1100, 5500),
        Decision(Action.IDLE, 1100, 5500),
    ),
    "7: the connection never had a byte": (
        {"base": 0, "written": 0},
        Facts(True, 0, 0),
        Decision(Action.IDLE),
    ),
    "8: not called": ({}, Facts(True, 1100, 5000), REPLAY),
    "8: safe": ({"flags": SAFE}, Facts(True, 1100, 5000), AGAIN),
    "8: safe, the response was made but not sent": ({"flags": SAFE, **DONE}, Facts(True, 1100, 5000), AGAIN),
    "8: the next request, behind a whole response": (
        {"flags": UNSAFE, "attempt": 1, **DONE},
        Facts(True, 1130, 5500),
        Decision(Action.REPLAY, 1100, 5500, 100, 130, 1),
    ),
    "8: after 100 Continue": (
        {"flags": SAFE | Flag.INTERIM},
        Facts(True, 1100, 5000 + len(CONTINUE)),
        AGAIN._replace(written=5000 + len(CONTINUE)),
    ),
    "8: before 100 Continue": ({"flags": SAFE | Flag.INTERIM}, Facts(True, 1100, 5000), AGAIN),
    "8: the next request begins in a buffer that was full before": (
        {"flags": UNSAFE, "origin": 1090, **DONE},
        Facts(True, 1130, 5500),
        Decision(Action.REPLAY, 1100, 5500, 10, 40, 1),
    ),
    "9: unsafe, after 100 Continue": (
        {"flags": UNSAFE | Flag.INTERIM},
        Facts(True, 1100, 5000 + len(CONTINUE)),
        Decision(Action.ANSWER),
    ),
    "9: unsafe": ({"flags": UNSAFE}, Facts(True, 1100, 5000), Decision(Action.ANSWER)),
    "9: unsafe, the response was made but not sent": (
        {"flags": UNSAFE, **DONE},
        Facts(True, 1100, 5000),
        Decision(Action.ANSWER),
    ),
    "9: no buffer": ({"buffer": 0}, Facts(True, 1100, 5000), Decision(Action.ANSWER)),
    "9: no buffer was free": (
        {"buffer": 0, "flags": Flag.OVERFLOW},
        Facts(True, 1100, 5000),
        Decision(Action.ANSWER),
    ),
    "9: the request begins before the buffer": (
        {"origin": 1001},
        Facts(True, 1100, 5000),
        Decision(Action.ANSWER),
    ),
    "4: part of a response": ({"flags": SAFE}, Facts(True, 1100, 5001), Decision(Action.RESET)),
    "4: the response lacks its last byte": (
        {"flags": SAFE, **DONE},
        Facts(True, 1100, 5499),
        Decision(Action.RESET),
    ),
    "4: more than a response": ({"flags": SAFE, **DONE}, Facts(True, 1100, 5501), Decision(Action.RESET)),
    "4: part of 100 Continue": ({"flags": SAFE | Flag.INTERIM}, Facts(True, 1100, 5010), Decision(Action.RESET)),
    "4: more than 100 Continue": (
        {"flags": SAFE | Flag.INTERIM},
        Facts(True, 1100, 5001 + len(CONTINUE)),
        Decision(Action.RESET),
    ),
    "4: a part of a response as long as 100 Continue": (
        {"flags": SAFE},
        Facts(True, 1100, 5000 + len(CONTINUE)),
        Decision(Action.RESET),
    ),
    "4: fewer bytes written than the slot says": ({}, Facts(True, 1000, 4999), Decision(Action.RESET)),
    "4: what was written is not known": ({}, Facts(True, 1000, None), Decision(Action.RESET)),
}


@pytest.mark.parametrize(("named", "facts", "expected"), ROWS.values(), ids=ROWS)
def test_decide_follows_the_table(named, facts, expected):
    assert decide(words(**named), facts, "safe")._replace(reason="") == expected


@pytest.mark.parametrize("policy", REPEATABLE)
@pytest.mark.parametrize(
    "flags", [SAFE, IDEMPOTENT, UNSAFE, 0], ids=["safe", "idempotent", "unsafe", "not called"]
)
def test_the_replay_setting_says_which_methods_are_repeated(policy, flags):
    """A request for which the application was not called is handed on with every setting."""
    allowed = {"none": [0], "safe": [0, SAFE], "idempotent": [0, SAFE, IDEMPOTENT]}
    action = decide(words(flags=flags), Facts(True, 1100, 5000), policy).action
    assert action is (Action.REPLAY if flags in allowed[policy] else Action.ANSWER)


@pytest.mark.parametrize("attempt", range(MOST_ATTEMPTS + 2))
def test_a_call_is_repeated_once_and_a_request_without_a_call_three_times(attempt):
    """Deaths before the application was called do not count towards the one repetition of a call."""
    facts = Facts(True, 1100, 5000)
    called = decide(words(flags=SAFE, attempt=attempt), facts, "idempotent")
    again = decide(words(flags=SAFE, attempt=attempt + CALLED_BEFORE), facts, "idempotent")
    fresh = decide(words(attempt=attempt), facts, "none")
    assert (called.action, called.attempt) == (Action.REPLAY, attempt + 1 + CALLED_BEFORE)
    assert again.action is Action.ANSWER
    assert fresh.action is (Action.REPLAY if attempt < MOST_ATTEMPTS else Action.ANSWER)
    if fresh.action is Action.REPLAY:
        assert fresh.attempt == attempt + 1


def test_attempts_count_for_one_request_only():
    """An idle connection, and the next request after one that was answered, begin with attempt 0."""
    assert decide(words(attempt=MOST_ATTEMPTS), Facts(True, 1000, 5000), "safe").attempt == 0
    after = decide(words(attempt=MOST_ATTEMPTS, flags=SAFE, **DONE), Facts(True, 1101, 5500), "safe")
    assert (after.action, after.attempt) == (Action.REPLAY, 1)


@pytest.mark.parametrize(("origin", "read"), list(itertools.product([0, 1, 1000], [-1, 0, 1])))
def test_a_buffer_is_used_to_its_last_byte(origin, read):
    """And no further, wherever in the buffer the request begins."""
    facts = Facts(True, origin + BUFFER_SIZE + read, 5000)
    decision = decide(words(origin=origin), facts, "safe")
    if read <= 0:
        start = 1000 - origin
        assert decision == Decision(Action.REPLAY, 1000, 5000, start, BUFFER_SIZE + read, 1)
    else:
        assert decision.action is Action.ANSWER


def test_decide_does_not_read_the_words_that_only_unix_sockets_need():
    """`Custody` makes the facts of these words; where they leave a doubt, a fact is None."""
    slot = words()
    slot[READ], slot[WROTE] = 7, 8
    slot[FLAGS] = int(Flag.READING | Flag.WRITING)
    assert decide(slot, Facts(True, 1000, 5000), "safe") == IDLE


def test_the_connection_of_a_raw_handler_is_reset_and_gets_no_502():
    slot = words(flags=Flag.STREAM | Flag.OVERFLOW, buffer=0)
    assert decide(slot, Facts(True, 1100, 5000), "safe").action is Action.RESET


def test_a_commit_of_a_raw_handler_counts_even_at_position_0_and_chooses_its_state():
    """FINAL marks a FINAL_END of position 0, and SECOND goes with WRITTEN to the next worker."""
    slot = words(base=0, written=0, final_base=40, final_end=FINAL | SECOND, flags=Flag.STREAM, origin=0)
    assert decide(slot, Facts(True, 40, 0), "safe") == Decision(Action.IDLE, 40, SECOND)
    slot = words(base=40, written=SECOND, flags=Flag.STREAM)
    assert decide(slot, Facts(True, 40, 0), "safe") == Decision(Action.IDLE, 40, SECOND)


def test_no_request_is_repeated_wrongly_or_forgotten_whatever_the_slot_says():
    """Over many slots: each decision keeps its promises by the facts alone."""
    flagged = [0, SAFE, UNSAFE, Flag.OVERFLOW, SAFE | Flag.CLOSING]
    values = itertools.product(flagged, [0, 5500], [0, 1], [0, 1], [1000, 1050, 1100, 1150])
    for (flags, end, attempt, buffer, read), wrote in itertools.product(list(values), [5000, 5200, 5500, 5600]):
        final = {"final_base": 1100, "final_end": end} if end else {}
        slot = words(flags=flags, attempt=attempt, buffer=buffer, **final)
        for policy in REPEATABLE:
            decision = decide(slot, Facts(True, read, wrote), policy)
            case = (slot, read, wrote, policy, decision)
            if decision.action in {Action.IDLE, Action.REPLAY}:
                assert decision.written == wrote, case
                assert decision.base + decision.stop - decision.start == read, case
            if decision.action is Action.REPLAY and wrote == 5000:
                assert buffer, case
                assert not flags & Flag.CALLED or (flags & Flag.SAFE and policy != "none"), case
            if decision.action is Action.ANSWER:
                assert wrote in {5000, end}, case
                assert read > 1000, case


def test_bytes_that_the_dead_worker_was_handed_and_had_not_used_are_handed_on_again():
    slot = words(buffer=0, attempt=1)
    assert not is_idle(slot)
    again = Decision(Action.REPLAY, 1000, 5000, attempt=1)
    assert decide(slot, Facts(True, 1040, 5000, handed=40), "none") == again
    assert decide(slot, Facts(True, 1040, 5000), "none").action is Action.ANSWER


@pytest.mark.parametrize(
    ("named", "read", "wrote"),
    [
        ({}, 1041, 5000),  # the kernel counts one byte more
        ({"flags": Flag.OVERFLOW}, 1040, 5000),
        ({"flags": SAFE}, 1040, 5000),
        ({"final_base": 1010, "final_end": 5001}, 1050, 5001),  # the response has gone out
    ],
)
def test_handed_bytes_are_not_handed_on_again_once_the_worker_has_read_or_called(named, read, wrote):
    slot = words(**{"buffer": 0, "attempt": 1, **named})
    assert decide(slot, Facts(True, read, wrote, handed=40), "idempotent").action is Action.ANSWER


MEMORY = bytes(BUFFER_SIZE) + b"abc\0def\0" + bytes(BUFFER_SIZE - 8)


@pytest.mark.parametrize(
    ("marked", "read", "expected"),
    [
        (1000, 1000, False),  # the buffer has more bytes than READ and the kernel count
        (1000, 1003, True),  # a zero that the client sent hides the bytes behind it
        (1000, 1004, False),
        (1000, 1007, True),
        (1007, 1007, True),
        (1008, 1008, True),  # the last byte is a zero, which READ counts too
        (1007, 1008, False),  # the last byte is a zero, which READ does not count: a doubt
        (1007, 1009, False),
        (1007, 1032, False),  # urgent bytes, which the kernel counts and no read returns
        (1007, 1006, False),
        (1007, 1000 + 2 * BUFFER_SIZE, False),
        (1007, 999, False),
    ],
)
def test_the_kernels_count_agrees_if_the_workers_count_or_its_buffer_does(marked, read, expected):
    """Bytes in a buffer that its present connection has not read are never handed on, whatever a counter says."""
    slot = words(buffer=2)
    slot[READ] = marked
    assert agrees(slot, read, MEMORY) is expected


@pytest.mark.parametrize("read", [1006, 1007, 1008])
def test_without_a_buffer_the_kernels_count_agrees_only_with_the_workers_own(read):
    slot = words(buffer=0)
    slot[READ] = 1007
    assert agrees(slot, read, MEMORY) is (read == 1007)


def test_a_full_buffer_agrees_without_a_zero_behind_it():
    slot = words(buffer=1)
    slot[READ] = 1000
    assert agrees(slot, 1000 + BUFFER_SIZE, b"x" * BUFFER_SIZE)
