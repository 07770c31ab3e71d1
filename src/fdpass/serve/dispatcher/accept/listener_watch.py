"""`ListenerWatch`: which listeners the loop watches; none for a moment after accept(2) lacked descriptors."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from fdpass._supervision.loop import Loop, Timer
from fdpass.serve.dispatcher.listeners import Listening
from fdpass.serve.shared.events import Event, about

log = logging.getLogger("fdpass.serve")

_PAUSE_SECONDS = 0.1  # the kernel does not say when a descriptor becomes free


class ListenerWatch:
    """Watches listeners.

    Args:
        loop: Event loop.
        listeners: All listeners. Lent.
        on_listener: Called with the index of a watched listener at which a client waits.
        on_resume: Called when a pause is over.

    Attributes:
        watched: Indices of the listeners that are watched now.
        is_paused: Whether a pause goes on: nothing should be accepted.
        waits: How many times `wait_for_room` has stopped the watching.
    """

    def __init__(
        self,
        loop: Loop,
        listeners: Sequence[Listening],
        on_listener: Callable[[int], None],
        on_resume: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._listeners = listeners
        self._on_listener = on_listener
        self._on_resume = on_resume
        self.is_paused = False
        self.waits = 0
        self._waited, self._waiting_since = 0.0, 0.0
        self._timer: Timer | None = None
        self._paused_at = 0.0
        self.watched: set[int] = set()

    @property
    def is_waiting(self) -> bool:
        """Whether no listener is watched because of `wait_for_room`."""
        return bool(self._waiting_since)

    @property
    def waited(self) -> float:
        """For how many seconds altogether no listener was watched because of `wait_for_room`."""
        return self._waited + (time.monotonic() - self._waiting_since if self._waiting_since else 0.0)

    def wait_for_room(self) -> None:
        """Watch no listener for now: no worker has room, or as many connections are open as there may be."""
        if self.watched:
            if not self.is_paused and not self._waiting_since:
                self.waits += 1
                self._waiting_since = time.monotonic()
            self.watch(())

    def watch_all(self) -> None:
        """Watch all listeners."""
        if len(self.watched) != len(self._listeners):
            self.watch_some(range(len(self._listeners)))

    def watch_some(self, indices: Iterable[int]) -> None:
        """Watch these listeners, and no others; there is room."""
        if self._waiting_since:
            self._waited, self._waiting_since = self.waited, 0.0
        self.watch(indices)

    def watch(self, indices: Iterable[int]) -> None:
        """Watch these listeners, and no others."""
        wanted = set(indices)
        for index in self.watched - wanted:
            self._loop.unwatch(self._listeners[index].sock.fileno())
        for index in wanted - self.watched:
            self._loop.watch(self._listeners[index].sock.fileno(), lambda index=index: self._on_listener(index))  # type: ignore[misc]
        self.watched = wanted

    def pause(self, error: OSError) -> None:
        """Watch no listener for a moment: accept(2) has failed for lack of descriptors or memory."""
        now = time.monotonic()
        if now - self._paused_at > 10 * _PAUSE_SECONDS:  # else it is still the same lack
            text = "cannot accept: %s; trying again every %g s"
            log.warning(text, error.strerror, _PAUSE_SECONDS, extra=about(Event.ACCEPT_FAILED))
        self._paused_at = now
        self.is_paused = True
        self._timer = self._loop.call_later(_PAUSE_SECONDS, self._resume)
        self.watch(())

    def _resume(self) -> None:
        self.is_paused = False
        self._on_resume()

    def close(self) -> None:
        """Watch no listener any more, and end a pause."""
        if self._timer is not None:
            self._timer.cancel()
        self.watch(())
