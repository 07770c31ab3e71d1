"""`EventStreams`: the event streams that one worker continues after other workers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from fdpass.serve.shared import pages
from fdpass.serve.shared.slots import ATTEMPT, FINAL_END, WROTE, slot_of
from fdpass.serve.worker.live.continued_events import ContinuedEvents
from fdpass.serve.worker.live.paths import is_resumable, path_of
from fdpass.serve.worker.live.resume_queue import ResumeQueue
from fdpass.serve.worker.live.stream_memory import StreamMemory
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.poller import Poller

log = logging.getLogger("fdpass.serve")


class EventStreams:
    """Calls the application anew for event streams of other workers, for some of them at a time.

    Args:
        poller: Watches the connections.
        memory: See `StreamMemory`.
        make: Makes the protocol of a connection.
    """

    def __init__(self, poller: Poller, memory: StreamMemory, make: Callable[[PassedSocket], Any]) -> None:
        self._poller = poller
        self._memory, self._pages = memory, memory.pages
        self._make = make
        self._queue = ResumeQueue(poller.loop, self._begin)
        self._retiring = self._finishing = False

    def resume(self, passed: PassedSocket) -> None:
        """Continue an event stream of another worker, as soon as not too many others wait for their responses."""
        if self._retiring:
            self._give_back(passed)
        elif self._finishing:
            _refuse(passed)
        else:
            self._queue.add(passed)

    def _begin(self, passed: PassedSocket) -> None:
        slot = passed.slot
        pages.count_resumed(self._pages, slot)
        page = pages.load(self._pages, slot)
        if not is_resumable(path_of(page.head), self._memory.prefixes):  # the settings have changed
            path = ascii(path_of(page.head))[1:-1]
            log.warning("reset: an event stream that --resume does not name any more: GET %s", path)
            self._queue.discard(passed)
            _refuse(passed)
            return
        words = slot_of(self._memory.slots, slot)
        words[ATTEMPT] += 1
        transport = ContinuedEvents(self._poller, passed, words, self._memory.buffers, self._memory.scratch)
        unsent = pages.backlog(self._pages, slot, words[WROTE])[0] if words[FINAL_END] else b""
        transport.prepare(page, unsent, partial(self._queue.discard, passed))
        transport.start(self._make(passed))

    def retire(self) -> None:
        """Give back the streams whose turn has not come."""
        self._retiring = True
        for passed in self._queue.take_all():
            self._give_back(passed)

    def _give_back(self, passed: PassedSocket) -> None:
        if slot_of(self._memory.slots, passed.slot)[FINAL_END]:  # only this worker can send the backlog
            _refuse(passed)
            return
        passed.returned = True  # with the bytes that came with it
        passed.close()

    def end(self) -> None:
        """Reset them instead: their clients connect again."""
        self._retiring, self._finishing = False, True
        for passed in self._queue.take_all():
            _refuse(passed)


def _refuse(passed: PassedSocket) -> None:
    passed.reset()
    passed.close()
