"""`Events`: the last lines of the dispatcher's log as objects, and the clients that wait for the next one."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from typing import Any

from fdpass._supervision.logs import as_fields
from fdpass._supervision.loop import Loop
from fdpass.serve.operator.control import Reply
from fdpass.serve.operator.outcomes import OK, refused

MOST = 200
"""How many events are kept."""

_MESSAGE_MAX = 2000  # characters: a start that failed has the application's traceback in its message
_WAIT_MAX = 30.0
_WAITING_MAX = 64  # clients, as many as the control socket has; a client that has gone may still be among them


class Events(logging.Handler):
    """A handler of the log, which keeps what it gets.

    Args:
        loop: The dispatcher's event loop.
        before: The ids begin behind it: those of a dispatcher that takes over lie above those of the one before.
    """

    def __init__(self, loop: Loop, before: int = 0) -> None:
        super().__init__(logging.INFO)
        self._loop = loop
        self._kept: deque[dict[str, Any]] = deque(maxlen=MOST)
        self._last = before
        self._waiting: deque[_Waiting] = deque()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, and send it to the clients that wait."""
        self._last += 1
        fields = as_fields(record, {"event": "other"})
        fields.pop("traceback", None)
        fields["message"] = fields["message"][:_MESSAGE_MAX]
        self._kept.append({"id": self._last, **fields})
        waiting, self._waiting = self._waiting, deque()
        for each in waiting:
            self._answer(each)

    def request(self, request: Mapping[str, Any], reply: Reply) -> None:
        """Reply with the events behind ``after``; wait for one for up to ``wait`` seconds, if there is none."""
        after, wait = request.get("after", 0), request.get("wait", 0)
        if type(after) is not int or type(wait) not in {int, float} or not 0 <= wait <= _WAIT_MAX:
            reply(refused(f"events: after must be a whole number, and wait from 0 to {_WAIT_MAX:g} seconds"))
            return
        waiting = _Waiting(after, reply)
        if not wait or after != self._last:
            self._answer(waiting)
            return
        self._waiting.append(waiting)
        if len(self._waiting) > _WAITING_MAX:
            self._answer(self._waiting.popleft())
        self._loop.call_later(wait, lambda: self._answer(waiting))

    def _answer(self, waiting: _Waiting) -> None:
        if not waiting.answered:
            waiting.answered = True
            events = [event for event in self._kept if event["id"] > waiting.after]
            waiting.reply(OK | {"events": events, "last": self._last})


class _Waiting:
    __slots__ = ("after", "answered", "reply")

    def __init__(self, after: int, reply: Reply) -> None:
        self.after = after
        self.reply = reply
        self.answered = False
