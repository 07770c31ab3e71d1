"""What a worker counts of its requests, and how it reaches the ledger."""

from itertools import pairwise
from types import SimpleNamespace

import pytest

from fdpass.serve.shared.ledger import BOUNDS, BUCKETS, CLASSES, SIZE, Ledger
from fdpass.serve.worker.request_count import RequestCount


@pytest.fixture
def ledger():
    found = Ledger(bytearray(SIZE))
    yield found
    found.release()


def series(ledger, row, index):
    return ledger.counts(row).tolist()[index * BUCKETS : (index + 1) * BUCKETS]


def expected(**counts):
    """A list of counts, by the numbers of buckets."""
    return [counts.get(f"b{bucket}", 0) for bucket in range(BUCKETS)]


def test_the_bounds_are_powers_of_two_from_100_microseconds_to_105_seconds():
    assert BOUNDS[0] == 0.0001
    assert BOUNDS[-1] == 104.8576
    assert all(after == 2 * before for before, after in pairwise(BOUNDS))


def test_each_response_is_in_the_bucket_of_its_duration_and_class(ledger):
    count = RequestCount()
    count.seconds[200] += [0.0, 0.00005, 0.0001, 0.00015, 0.0002, 1.0, 104.0, 105.0, 1e6]
    count.seconds[404].append(0.0005)
    count.seconds[599].append(0.05)
    count.waits.append(0.003)
    count.store(ledger, 7)
    found = [series(ledger, 7, index) for index in range(1 + len(CLASSES))]
    assert found[0] == expected(b5=1)
    assert found[1] == found[3] == expected()
    assert found[2] == expected(b0=2, b1=2, b2=1, b14=1, b20=1, b21=2)
    assert found[4] == expected(b3=1)
    assert found[5] == expected(b9=1)
    assert ledger.handled[7] == 11
    assert ledger.duration[7] == pytest.approx((1e6 + 210 + 0.0005 + 0.0505) * 1e9, rel=1e-9)


def test_a_beat_adds_to_those_before_and_another_row_is_untouched(ledger):
    count = RequestCount()
    for _ in range(3):
        count.seconds[200].append(0.01)
        count.seconds[204].append(0.02)  # of the same class
        count.store(ledger, 0)
    assert series(ledger, 0, 2) == expected(b7=3, b8=3)
    count.store(ledger, 0)
    assert sum(ledger.counts(0)) == ledger.handled[0] == 6
    assert sum(ledger.counts(1)) == 0


def test_requests_in_progress_are_those_without_a_whole_response(ledger):
    count = RequestCount()
    count.exchanges = [SimpleNamespace(complete=False), SimpleNamespace(complete=True)]
    count.begun, count.over, count.unanswered = 5, 3, 4
    count.store(ledger, 0)
    assert ledger.requests[0] == 1 + 2
    assert ledger.handled[0] == 3 + 4


def test_clear_zeroes_the_counts_of_one_row(ledger):
    count = RequestCount()
    count.seconds[500].append(0.01)
    count.store(ledger, 3)
    count.seconds[500].append(0.01)
    count.store(ledger, 4)
    ledger.clear(3)
    assert (sum(ledger.counts(3)), sum(ledger.counts(4))) == (0, 1)
