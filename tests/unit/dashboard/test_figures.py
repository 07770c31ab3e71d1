"""Rates and latency between two statuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdpass._dashboard.figures import quantile, sample

from ._statuses import BOUNDS, old_status, status


def test_rates_are_differences_a_second():
    now = status(
        connections__accepted=150,
        connections__handed=170,
        connections__answered_502=3,
        requests__responses={"1xx": 0, "2xx": 1190, "3xx": 0, "4xx": 6, "5xx": 6},
    )
    found = sample(status(), now, 2.0, status())
    assert (found["requests"], found["failed"]) == (101.0, 2.0)
    assert (found["accepted"], found["handed"]) == (15.0, 20.0)
    assert (found["live"], found["progress"]) == (20, 2)


@pytest.mark.parametrize("before", [None, status(server__pid=1, connections__accepted=10**6)])
def test_the_first_status_of_a_process_has_no_rates(before):
    found = sample(before, status(), 1.0, before)
    assert [found[name] for name in ("requests", "failed", "accepted", "handed")] == [0, 0, 0, 0]
    assert found["p50"] is None


def test_latency_is_that_of_the_newer_responses():
    now = status()
    now["requests"]["latency"]["counts"]["2xx"][5] += 98
    now["requests"]["latency"]["counts"]["5xx"][10] += 2
    found = sample(status(), now, 1.0, status())
    assert 0.0016 <= found["p50"] <= 0.0032
    assert 0.0512 <= found["p99"] <= 0.1024


def test_a_server_that_counts_no_responses_has_the_other_figures():
    found = sample(old_status(), old_status(), 1.0, old_status())
    assert (found["requests"], found["live"], found["p50"]) == (None, 20, None)


@given(st.lists(st.integers(0, 1000), min_size=22, max_size=22), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_that_holds_it(counts, share):
    found = quantile(BOUNDS, counts, share)
    if found is None:
        assert not sum(counts)
        return
    below = sum(count for count, end in zip(counts, [*BOUNDS, 1e9], strict=True) if end <= found * (1 + 1e-9))
    upto = sum(count for count, start in zip(counts, [0, *BOUNDS], strict=True) if start <= found * (1 + 1e-9))
    assert found == BOUNDS[-1] or below <= share * sum(counts) + 1e-6
    assert upto >= share * sum(counts) - 1e-6


def test_what_lies_beyond_the_last_bound_is_the_last_bound():
    assert quantile(BOUNDS, [0] * 21 + [5], 0.5) == BOUNDS[-1]
