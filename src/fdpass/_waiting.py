"""How a thread waits for a socket: with a deadline, and until another thread closes the socket's owner.

close(2) wakes no thread that waits. So each owner has an eventfd(2) that ends its waits, from the first wait on.
The number of a closed socket may be used again at once: so the last thread that leaves the owner closes it.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
import weakref
from typing import Protocol

from fdpass._errors import InvalidMessage, translated
from fdpass._fd import Fd, opened

_POLL_MAX = 1_000_000_000  # milliseconds: poll(2) takes an int
_LOOK_EVERY = 100  # milliseconds between two looks at `ended`, if no descriptor slot is free for the eventfd


def check_timeout(seconds: float | None) -> None:
    """Raise InvalidMessage for a number of seconds that is negative or not a number."""
    if seconds is not None and not seconds >= 0:
        raise InvalidMessage(f"a timeout is a number of seconds, 0 or more, or None: not {seconds!r}")


def deadline_of(seconds: float | None) -> float | None:
    """The time of time.monotonic() at which ``seconds`` have passed; None: no limit."""
    return None if seconds is None or seconds > threading.TIMEOUT_MAX else time.monotonic() + seconds


def left(deadline: float | None) -> float:
    """Seconds until the deadline: 0 if it has passed; -1 if there is none, as a lock's acquire() takes it."""
    return -1 if deadline is None else max(0.0, deadline - time.monotonic())


class _Forked(Protocol):
    def _after_fork(self) -> None: ...


_forked: weakref.WeakSet[_Forked] = weakref.WeakSet()


def tell_after_fork(owner: _Forked) -> None:
    """Have ``owner._after_fork()`` called in each child that is forked while the owner lives."""
    _forked.add(owner)


def _after_fork() -> None:
    for owner in list(_forked):
        owner._after_fork()  # noqa: SLF001 - users see no such method


os.register_at_fork(after_in_child=_after_fork)


class Waits:
    """The waits of all threads of this process at one socket.

    Attributes:
        ended: True once `end` was called.
    """

    __slots__ = ("_event", "_lock", "ended")

    def __init__(self) -> None:
        self._event: Fd | None = None
        self._lock = threading.RLock()  # of `_event`; a signal handler may call `end` within `wait`
        self.ended = False

    def wait(self, sock: socket.socket, event: int, deadline: float | None) -> bool:
        """Wait with poll(2) until ``event`` may have happened.

        Returns:
            False if the deadline has passed. True does not promise the event: call again if it did not happen.

        Raises:
            CallFailed: poll(2) failed.
        """
        poll = select.poll()
        poll.register(sock, event)
        seconds = left(deadline)
        milliseconds = _POLL_MAX if seconds < 0 else min(seconds * 1000, _POLL_MAX)
        wake = self._wake()
        if wake is not None:
            poll.register(wake, select.POLLIN)
        else:
            milliseconds = min(milliseconds, _LOOK_EVERY)
        # `end` sets `ended` before it looks for the eventfd, and the eventfd exists by now: no wait is missed.
        try:
            return self.ended or bool(poll.poll(milliseconds)) or left(deadline) != 0
        except OSError as error:
            raise translated(error, "cannot wait for the socket") from error

    def end(self) -> None:
        """End every wait, now and later."""
        with self._lock:
            self.ended = True
            if self._event is not None:
                os.eventfd_write(self._event.fileno(), 1)  # it stays readable, for all that wait

    def close(self) -> None:
        """Close the eventfd. No thread may wait."""
        with self._lock:
            if self._event is not None:
                self._event.close()
                self._event = None

    def after_fork(self) -> None:
        """In a forked child: forget the parent's threads, which have the same eventfd."""
        self._lock = threading.RLock()
        self.close()

    def _wake(self) -> Fd | None:
        with self._lock:
            if self._event is None:
                try:
                    self._event = opened(os.eventfd, 0)
                except OSError:  # EMFILE
                    return None
            return self._event
