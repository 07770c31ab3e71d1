"""When a copy shows its progress: only one that takes its time, and only where nobody else writes."""

import sys
from types import SimpleNamespace

import pytest

from fdpass._cli import progress


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def shown(monkeypatch):
    """What would be drawn: a list of the total, followed by the bytes copied so far."""
    shown = []

    def show(stack, text, total, *, of_bytes):
        shown.append(total)
        return SimpleNamespace(task_ids=[0], update=lambda _, completed: shown.append(completed))

    monkeypatch.setattr(progress, "_visible", lambda: True)
    monkeypatch.setattr(progress, "os", SimpleNamespace(isatty=lambda _: False))
    monkeypatch.setattr(progress, "_show", show)
    return shown


def test_a_short_copy_shows_nothing(clock, shown):
    with progress.Copying(100) as copying:
        copying.add(100)
    assert shown == []


def test_a_copy_shows_its_progress_once_it_has_taken_its_time(clock, shown):
    with progress.Copying(100) as copying:
        copying.add(10)
        clock.now += progress.DELAY
        copying.add(10)
        copying.add(30)
    assert shown == [100, 20, 50]


def test_a_copy_of_unknown_size_shows_its_progress_at_once(clock, shown):
    """It may wait for a pipe's writer before the first byte."""
    with progress.Copying(None):
        pass
    assert shown == [None, 0]


def test_rich_is_asked_for_once_if_it_is_missing(clock, shown, monkeypatch):
    asked = []
    monkeypatch.setattr(progress, "_show", lambda *_, **__: asked.append(1))
    with progress.Copying(None) as copying:
        copying.add(1)
        copying.add(1)
    assert asked == [1]


def test_an_error_in_a_wait_is_not_lost():
    with pytest.raises(OSError, match="an error"), progress.waiting("for nothing"):
        raise OSError("an error")


def test_nothing_is_visible_without_a_standard_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", open("/dev/null"))
    sys.stderr.close()
    assert not progress._visible()
