"""The events of a server's log: a name for each line that is not only prose, and the fields that it can have."""

from __future__ import annotations

from enum import Enum
from typing import Any


class Event(Enum):
    """The events. The value says what has happened; the name, in small letters, is in the line."""

    SERVER_STARTED = "the server listens, and starts its workers"
    SERVER_READY = "the first workers can serve; the line says where"
    SERVER_STOPPING = "a stop has begun"
    SERVER_KILLED = "a second stop: the workers are killed"
    SERVER_STOPPED = "the server has stopped"
    DISPATCHER_DIED = "the dispatcher has ended, and the keeper makes another; in the log only"
    DISPATCHER_KILLED = "the keeper kills a dispatcher that does not run; in the log only"
    DISPATCHER_ADOPTED = "a dispatcher has taken over from the one before"
    KEEPER_ENDED = "the keeper has been killed"
    UPGRADE_DONE = "the new code serves; in the log only"
    UPGRADE_FAILED = "the code of before serves on; in the log only"
    WORKER_READY = "a worker can serve"
    WORKER_DIED = "a worker has ended without having been told to, or not in order"
    WORKER_RETIRED = "a worker has retired"
    WORKER_ENDED = "a worker that is not wanted any more has ended before it was ready"
    WORKER_KILLED = "the dispatcher kills a worker"
    WORKER_UNFINISHED = "workers have been retiring for a while"
    WORKER_RECYCLED = "a worker is replaced because of `--max-requests` or `--max-rss`"
    WORKER_FULL = "a worker's descriptor table is full"
    START_FAILED = "a worker could not be started, or did not become ready"
    START_DELAYED = "when the next start is tried"
    RELOAD_STARTED = "the next generation is started"
    RELOAD_DONE = "the next generation serves"
    RELOAD_FAILED = "the next generation did not start, and the current one serves on"
    RELOAD_REFUSED = "the settings are wrong, and the current generation serves on"
    SETTING_KEPT = "a reload cannot change a setting"
    SCALED = "the number of workers is changed"
    ACCESS_LOG_OPENED = "the access log was opened again"
    ACCESS_LOG_FAILED = "the access log could not be opened again"
    SIGNAL_IGNORED = "a signal came that the server does not use"
    CONNECTIONS_FULL = "as many connections are open as there may be"
    ACCEPT_FAILED = "accept(2) lacks descriptors or memory for a moment"
    CONNECTION_REPLAYED = "a connection of a dead worker went to another one with its request"
    CONNECTION_ANSWERED = "a connection of a dead worker was answered 502"
    CONNECTION_RESET = "a connection of a dead worker was reset"
    CONNECTION_CLOSED = "a connection of a dead worker was closed"
    CONNECTION_RESTARTED = "the client of a WebSocket was told to connect again"
    REQUEST_REFUSED = "a worker has refused what a client sent (400, 413, 431)"
    REQUEST_CUT = "a worker has cut a request when the graceful time was over"
    APPLICATION_FAILED = "the application has failed in a request or on a connection"
    WORKER_LATE = "a worker waits at its exit for threads or processes of the application"
    OTHER = "any other line"


def about(event: Event, **fields: Any) -> dict[str, Any]:
    """Make the ``extra`` of a line of the log.

    Args:
        event: What has happened.
        **fields: ``worker`` (a process number), ``generation``, ``connection`` (its slot), ``cause``.
    """
    return {"event": event.name.lower(), **fields}
