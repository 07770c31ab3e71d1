"""The clock of messages: 32 bits, which start anew."""

import time
from types import SimpleNamespace

import pytest

from fdpass.serve.shared import short_clock


@pytest.mark.parametrize("start", [0.0, 4095.5, 1e8])
def test_a_duration_is_right_also_where_the_clock_starts_anew(monkeypatch, start):
    clock = SimpleNamespace(now=start)
    monkeypatch.setattr(short_clock, "time", SimpleNamespace(monotonic=lambda: clock.now))
    then = short_clock.now()
    assert 0 <= then < 2**32
    clock.now += 1.5
    assert short_clock.seconds_since(then) == pytest.approx(1.5, abs=2e-6)


def test_it_is_the_monotonic_clock():
    assert abs(short_clock.now() - int(time.monotonic() % 4096 * 1e6)) < 60_000_000
