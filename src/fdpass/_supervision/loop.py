"""The event loop of a main process: descriptors (epoll), timers and signals, and nothing else.

It is not asyncio's because a main process handles descriptors, not streams: epoll says which descriptors are
ready, and the loop calls their callbacks. A signal handler only notes its signal; signal.set_wakeup_fd wakes the
loop.
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

Callback = Callable[[], None]


class Timer:
    """A call that the loop will make.

    Attributes:
        callback: What the loop will call; None once it was cancelled.
    """

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Cancel the call. A second time, or after the call, this does nothing."""
        self.callback = None


class Loop:
    """Calls a callback when a descriptor is ready, a time has come, or a signal has arrived."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}  # by watched descriptor
        self._timers: list[tuple[float, int, Timer]] = []  # a heap, by time
        self._count = itertools.count()  # orders timers of the same time
        self._running = False
        self._wakeup: tuple[socket.socket, socket.socket] | None = None
        self._handlers_before: dict[int, Any] = {}
        self._wakeup_before = -1

    def watch(self, fd: int, callback: Callback, events: int = select.EPOLLIN) -> None:
        """Call ``callback`` whenever ``fd`` is readable or at its end, until `unwatch`. The descriptor is lent.

        Args:
            fd: The descriptor.
            callback: What to call.
            events: 0 to wait for EPOLLHUP and EPOLLERR alone, which epoll_ctl(2) always reports.

        Raises:
            PermissionError: epoll cannot watch this kind of file.
        """
        self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Stop watching ``fd``. Call it before closing: a registration follows the open file, not the number."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Call ``callback`` once, in so many seconds."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._count), timer))
        return timer

    def on_signals(self, callbacks: Mapping[int, Callback]) -> None:
        """Call the callbacks of these signals in this loop.

        A signal that comes twice before its callback runs counts once. `close` restores the handlers
        that were there before. Main thread only.
        """
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._wakeup = reader, writer

        # The wakeup socket only wakes the loop: some hundred bytes fill it, and the next signal may be SIGTERM.
        arrived: deque[int] = deque()

        def handler(number: int, _: Any) -> None:
            if number not in arrived:
                arrived.append(number)

        def call_callbacks() -> None:
            reader.recv(65536)
            while arrived:
                callbacks[arrived.popleft()]()

        self._wakeup_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in callbacks:
            self._handlers_before[number] = signal.signal(number, handler)
        self.watch(reader.fileno(), call_callbacks)

    def run(self) -> None:
        """Wait for events and call their callbacks, until `stop`."""
        self._running = True
        while self._running:
            for fd, _ in self._epoll.poll(self._timeout(), _MOST_EVENTS):
                callback = self._callbacks.get(fd)
                if callback is not None:  # else an earlier callback of this round has unwatched it
                    callback()
            self._call_due()

    def stop(self) -> None:
        """Let `run` return after the callback that runs now."""
        self._running = False

    def close(self) -> None:
        """Restore the signal handlers, and close epoll. Watched descriptors stay open: they are their owners'."""
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        if self._wakeup is not None:
            signal.set_wakeup_fd(self._wakeup_before)
            for end in self._wakeup:
                end.close()
        self._epoll.close()

    def _timeout(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _call_due(self) -> None:
        if not self._timers:
            return
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                timer.callback()
