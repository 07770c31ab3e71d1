"""How the log names what the dispatcher does with a connection of a dead worker: level, event, and reason."""

from __future__ import annotations

import logging

from fdpass.serve.dispatcher.recovery import Action
from fdpass.serve.shared.events import Event

TEXT = "connection %d: %s: %s%s: %s"
NO_WORKER_TEXT = "connection %d: answered 502: no worker is left for the request: %s"
DURING_STREAM = "its worker died during a stream, "
LOGGED = {
    Action.REPLAY: (logging.INFO, "its worker died before it answered the request"),
    Action.ANSWER: (logging.WARNING, "its worker died before it answered the request, "),
    Action.RESET: (logging.WARNING, "its worker died in the middle of a response"),
    Action.CLOSE: (logging.WARNING, "its worker died, and no other process has its state"),
    Action.RESTART: (logging.WARNING, DURING_STREAM),
}
EVENTS = {
    Action.REPLAY: Event.CONNECTION_REPLAYED,
    Action.ANSWER: Event.CONNECTION_ANSWERED,
    Action.RESET: Event.CONNECTION_RESET,
    Action.CLOSE: Event.CONNECTION_CLOSED,
    Action.RESTART: Event.CONNECTION_RESTARTED,
}
