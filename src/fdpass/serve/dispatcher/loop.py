"""The dispatcher's event loop: descriptors (epoll), timers and signals, and nothing else.

It is ours because the dispatcher handles descriptors, not streams: one system call tells what is ready, and a
callback takes it. A signal handler notes that it came, and wakes the loop (signal.set_wakeup_fd).
"""

from __future__ import annotations

import heapq
import itertools
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

_MOST_EVENTS = 256


class Timer:
    """A call to come.

    Attributes:
        when: On the monotonic clock, in seconds.
    """

    __slots__ = ("act", "when")

    def __init__(self, when: float, act: Callable[[], None]) -> None:
        self.when = when
        self.act: Callable[[], None] | None = act

    def cancel(self) -> None:
        """Call it off. Twice, or after it was made, does nothing."""
        self.act = None


class Loop:
    """Calls back when a descriptor is ready, a time has come, or a signal arrived."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()
        self._running = False
        self._woken: tuple[socket.socket, socket.socket] | None = None
        self._before: dict[int, Any] = {}
        self._wakeup_before = -1

    def watch(self, fd: int, act: Callable[[], None]) -> None:
        """Call ``act`` whenever the descriptor, lent, is readable or has ended, until `unwatch`."""
        self._epoll.register(fd, select.EPOLLIN)
        self._ready[fd] = act

    def unwatch(self, fd: int) -> None:
        """No more. Do it before the descriptor is closed: a registration follows the open file, not the number."""
        if self._ready.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, seconds: float, act: Callable[[], None]) -> Timer:
        """Call ``act`` once, so many seconds from now."""
        timer = Timer(time.monotonic() + seconds, act)
        heapq.heappush(self._timers, (timer.when, next(self._count), timer))
        return timer

    def on_signals(self, acts: Mapping[int, Callable[[], None]]) -> None:
        """Call back for these signals, in this loop. Signals that come while one of their kind waits are one.

        `close` gives back what handled them before. Main thread only.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._woken = ours, theirs

        # The bytes only wake: some hundreds fill the buffer, and the signal that matters may be the next.
        came: deque[int] = deque()

        def note(number: int, _: Any) -> None:
            if number not in came:
                came.append(number)

        def act_on() -> None:
            ours.recv(65536)
            while came:
                acts[came.popleft()]()

        self._wakeup_before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        for number in acts:
            self._before[number] = signal.signal(number, note)
        self.watch(ours.fileno(), act_on)

    def run(self) -> None:
        """Call back until `stop`."""
        self._running = True
        while self._running:
            for fd, _ in self._epoll.poll(self._patience(), _MOST_EVENTS):
                act = self._ready.get(fd)  # an earlier callback may have dropped it
                if act is not None:
                    act()
            self._make_due_calls()

    def stop(self) -> None:
        """Let `run` return after the callback that runs now."""
        self._running = False

    def close(self) -> None:
        """Give back the signals, and close what is ours. What was watched is its owners'."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._woken is not None:
            signal.set_wakeup_fd(self._wakeup_before)
            for end in self._woken:
                end.close()
        self._epoll.close()

    def _patience(self) -> float | None:
        while self._timers and self._timers[0][2].act is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _make_due_calls(self) -> None:
        if not self._timers:
            return
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.act is not None:
                timer.act()
