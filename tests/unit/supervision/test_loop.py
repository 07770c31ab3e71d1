"""The dispatcher's loop: descriptors, timers and signals, one callback at a time."""

import os
import select
import signal
import threading
import time
from unittest import mock

import pytest

from fdpass._supervision.loop import Loop


@pytest.fixture
def loop():
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_a_readable_descriptor_calls_until_it_is_unwatched(loop, pipe):
    calls = []

    def act():
        calls.append(os.read(pipe[0], 1))
        if len(calls) == 3:
            loop.unwatch(pipe[0])
            loop.stop()

    os.write(pipe[1], b"abcd")
    loop.watch(pipe[0], act)
    loop.run()
    assert calls == [b"a", b"b", b"c"]
    loop.call_later(0, loop.stop)
    loop.run()
    assert len(calls) == 3


def test_the_end_of_file_calls_the_callback(loop):
    reading, writing = os.pipe()
    os.close(writing)
    loop.watch(reading, loop.stop)
    loop.run()
    loop.unwatch(reading)
    os.close(reading)


def test_unwatch_of_a_descriptor_that_is_not_watched_does_nothing(loop, pipe):
    loop.unwatch(pipe[0])
    loop.watch(pipe[0], loop.stop)
    loop.unwatch(pipe[0])
    loop.unwatch(pipe[0])


def test_a_descriptor_that_a_callback_unwatched_is_not_called_in_the_same_round(loop, pipe):
    """Both are ready at once, and the callback that comes first unwatches the other."""
    others = os.pipe()
    calls = []

    def act_for(mine, other):
        def act():
            calls.append(mine)
            loop.unwatch(other)
            loop.stop()

        return act

    for end, other in ((pipe, others), (others, pipe)):
        os.write(end[1], b"x")
        loop.watch(end[0], act_for(end[0], other[0]))
    loop.run()
    assert len(calls) == 1
    for end in (*pipe, *others):
        loop.unwatch(end)
    for end in others:
        os.close(end)


def test_timers_are_called_in_the_order_of_their_times(loop):
    calls = []
    with mock.patch.object(
        time, "monotonic", return_value=time.monotonic()
    ):  # a pause here would change the order
        for seconds, name in ((0.002, "c"), (0, "a"), (0.001, "b")):
            loop.call_later(seconds, lambda name=name: calls.append(name))
        loop.call_later(0.003, loop.stop)
    loop.run()
    assert calls == ["a", "b", "c"]


def test_a_cancelled_timer_is_not_called(loop):
    calls = []
    timer = loop.call_later(0, lambda: calls.append("called off"))
    timer.cancel()
    timer.cancel()
    late = loop.call_later(0, lambda: calls.append("once"))
    loop.call_later(0, lambda: (late.cancel(), loop.stop()))
    loop.run()
    assert calls == ["once"]


def test_a_timer_can_cancel_another_that_is_due(loop):
    calls = []
    other = loop.call_later(0, lambda: calls.append("first") or timer.cancel())
    timer = loop.call_later(0, lambda: calls.append("second"))
    loop.call_later(0.001, loop.stop)
    loop.run()
    assert calls == ["first"]
    other.cancel()


def test_a_timer_that_renews_itself_does_not_starve_descriptors(loop, pipe):
    def again():
        loop.call_later(0, again)

    os.write(pipe[1], b"x")
    loop.call_later(0, again)
    loop.watch(pipe[0], loop.stop)
    loop.run()
    loop.unwatch(pipe[0])


def test_a_cancelled_timer_does_not_wake_the_loop(loop):
    """It is the only timer: a loop that still waited for it would wake for nothing."""
    loop.call_later(1000, lambda: None).cancel()
    loop.call_later(0, loop.stop)
    loop.run()


def test_an_error_in_a_callback_ends_the_run_and_loses_nothing(loop, pipe):
    os.write(pipe[1], b"x")

    def fail():
        raise LookupError

    loop.watch(pipe[0], fail)
    with pytest.raises(LookupError):
        loop.run()
    loop.unwatch(pipe[0])
    loop.watch(pipe[0], loop.stop)
    loop.run()
    loop.unwatch(pipe[0])


# Signals


def send(number, times=1):
    for _ in range(times):
        signal.pthread_kill(threading.main_thread().ident, number)


def test_signals_call_back_in_the_loop_and_not_in_the_handler(loop):
    calls = []
    loop.on_signals({signal.SIGUSR1: lambda: calls.append("one"), signal.SIGUSR2: lambda: calls.append("two")})
    send(signal.SIGUSR1)
    send(signal.SIGUSR2)
    assert calls == []
    loop.call_later(0, loop.stop)
    loop.run()
    assert sorted(calls) == ["one", "two"]


def test_a_signal_that_comes_twice_before_its_callback_counts_once(loop):
    calls = []
    loop.on_signals({signal.SIGUSR1: lambda: calls.append(1)})
    send(signal.SIGUSR1, 20)
    loop.call_later(0, loop.stop)
    loop.run()
    assert calls == [1]
    send(signal.SIGUSR1)
    loop.call_later(0, loop.stop)
    loop.run()
    assert calls == [1, 1]


def test_thousands_of_signals_do_not_lose_another(loop):
    """During a long callback more signals come than the wakeup socket holds; the last one must not be lost."""
    calls = []
    loop.on_signals({signal.SIGUSR1: lambda: calls.append("one"), signal.SIGUSR2: lambda: calls.append("two")})
    send(signal.SIGUSR1, 5000)
    send(signal.SIGUSR2)
    loop.call_later(0, loop.stop)
    loop.run()
    assert sorted(calls) == ["one", "two"]


def test_signals_without_a_callback_keep_their_handlers(loop):
    before = signal.signal(signal.SIGUSR2, lambda *_: None)
    loop.on_signals({signal.SIGUSR1: loop.stop})
    send(signal.SIGUSR2)
    send(signal.SIGUSR1)
    loop.run()
    signal.signal(signal.SIGUSR2, before)


def test_close_restores_the_handlers_and_the_wakeup_descriptor():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)}
    loop = Loop()
    loop.on_signals(dict.fromkeys(handlers, loop.stop))
    assert signal.getsignal(signal.SIGTERM) is not handlers[signal.SIGTERM]
    loop.close()
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    wakeup = signal.set_wakeup_fd(-1)
    assert wakeup == -1


def test_close_leaves_watched_descriptors_open(pipe):
    loop = Loop()
    loop.watch(pipe[0], loop.stop)
    loop.close()
    os.write(pipe[1], b"x")
    assert select.select([pipe[0]], [], [], 0)[0]
