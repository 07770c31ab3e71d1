"""Bytes of connections in custody, by their slots."""

from fdpass.serve.dispatcher.byte_counts import ByteCounts
from fdpass.serve.shared.slots import BASE, FINAL_BASE, FINAL_END, OPEN, UNFINISHED, WORDS, WRITTEN


def slots(**words):
    """Four slots, of which the second has these words."""
    found = memoryview(bytearray(8 * 4 * WORDS)).cast("q")
    for name, value in words.items():
        found[
            WORDS + {"base": BASE, "written": WRITTEN, "final_base": FINAL_BASE, "final_end": FINAL_END}[name]
        ] = value
    return found


def test_a_connection_counts_up_to_its_last_request_that_is_over():
    assert ByteCounts(slots(base=100, written=200)).total([1]) == (100, 200)


def test_the_last_response_of_a_connection_counts_though_it_is_not_committed():
    assert ByteCounts(slots(base=100, written=200, final_base=150, final_end=260)).total([1]) == (150, 260)


def test_bits_of_open_streams_are_no_bytes():
    assert ByteCounts(slots(base=9, written=20 | OPEN, final_end=UNFINISHED | OPEN)).total([0, 1]) == (9, 20)
    assert ByteCounts(slots(base=9, written=20 | OPEN)).total([1]) == (9, 20)


def test_connections_that_have_ended_stay_counted():
    words = slots(base=100, written=200)
    counts = ByteCounts(words)
    counts.add(1)
    words[WORDS + BASE] = words[WORDS + WRITTEN] = 0  # another connection gets the slot
    assert counts.total([]) == counts.total([1]) == (100, 200)
    words[WORDS + BASE] = 5
    assert counts.total([1]) == (105, 200)
