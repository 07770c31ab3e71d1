"""SETUP, the first message to a worker: what it is told, and which descriptors come with it. Both sides of it."""

from __future__ import annotations

import dataclasses
import json
import mmap
import socket
from collections.abc import Sequence
from typing import Any

from fdpass._fd import Fd
from fdpass._memory import mapped
from fdpass._message import Message
from fdpass.serve.shared import messages
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.ledger import Ledger


def packed(
    config: Config,
    row: int,
    listeners: Sequence[socket.socket],
    *,
    ledger: Fd,
    access_log: Fd | None,
    kept: Sequence[Fd],
) -> tuple[bytes, list[int]]:
    """The message, and the descriptors to lend with it.

    Args:
        config: The settings.
        row: Of the worker, in the ledger.
        listeners: Where the dispatcher listens.
        ledger: Its memory.
        access_log: Where requests are to be logged, if anywhere.
        kept: In custody: the memory of the slots, and of this worker's buffers.
    """
    families = {(int(sock.family), sock.proto) for sock in listeners}
    family, proto = families.pop() if len(families) == 1 else (-1, -1)
    told = {
        "config": dataclasses.asdict(config),
        "row": row,
        "family": family,
        "proto": proto,
        "address": listeners[0].getsockname(),
        "access_log": access_log is not None,
        "custody": bool(kept),
    }
    accepts = listeners if config.accept == "worker" else ()
    fds: list[Any] = [ledger, *([access_log] if access_log is not None else []), *kept, *accepts]
    return messages.SETUP + json.dumps(told).encode(), [fd.fileno() for fd in fds]


class Setup:
    """What a worker was told.

    Args:
        message: Its descriptors are taken.

    Attributes:
        config: The settings.
        row: Its row in the ledger.
        family: Of every connection that will come, if all have the same; else -1.
        proto: Likewise.
        address: Where the dispatcher listens: the first of its listeners.
        ledger: Shared with all.
        access_log: Where requests are to be logged, if anywhere. Owned.
        slots: Those of all connections, if they are in custody.
        buffers: The memory of this worker's, likewise.
        listeners: Where to accept, if workers do.
    """

    def __init__(self, message: Message) -> None:
        told = json.loads(message.data[1:])
        self.config = Config.of(told["config"])
        self.row: int = told["row"]
        self.family: int = told["family"]
        self.proto: int = told["proto"]
        address = told["address"]
        self.address: Any = tuple(address) if isinstance(address, list) else address
        fds = iter(message.fds)
        self.ledger = Ledger(_memory(next(fds)))
        self.access_log = next(fds) if told["access_log"] else None
        self.slots: memoryview | None = None
        self.buffers: mmap.mmap | None = None
        if told["custody"]:
            self.slots = memoryview(_memory(next(fds))).cast("q")
            self.buffers = _memory(next(fds))
        self.listeners = [fd.socket() for fd in fds]


def _memory(fd: Fd) -> mmap.mmap:
    with fd:
        return mapped(fd)
