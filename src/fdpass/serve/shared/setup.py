"""SETUP, the first message to a worker, with settings and descriptors: written here, and read here."""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
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
    generation: int,
    listeners: Sequence[socket.socket],
    *,
    ledger: Fd,
    access_log: Fd | None,
    kept: Sequence[Fd],
) -> tuple[bytes, list[int]]:
    """Write the message; returns it, and the descriptors to lend with it.

    Args:
        config: The settings.
        row: The worker's row in the ledger.
        generation: The number of its generation.
        listeners: The dispatcher's listeners.
        ledger: The memory of the ledger.
        access_log: The file for a line per request; None without an access log.
        kept: With custody, the memory of the slots, of this worker's buffers, and of the pages; else empty.
    """
    families = {(int(sock.family), sock.proto) for sock in listeners}
    family, proto = families.pop() if len(families) == 1 else (-1, -1)
    content = {
        "config": dataclasses.asdict(config),
        "row": row,
        "generation": generation,
        "family": family,
        "proto": proto,
        "address": os.fsdecode(name) if isinstance(name := listeners[0].getsockname(), bytes) else name,
        "access_log": access_log is not None,
        "custody": bool(kept),
    }
    accepts = listeners if config.accept == "worker" else ()
    fds: list[Any] = [ledger, *([access_log] if access_log is not None else []), *kept, *accepts]
    return messages.SETUP + json.dumps(content).encode(), [fd.fileno() for fd in fds]


class Setup:
    """The content of SETUP, as its worker reads it.

    Args:
        message: The message; its descriptors are taken.

    Attributes:
        config: The settings.
        row: The worker's row in the ledger.
        generation: The number of its generation.
        family: The address family of every connection to come; -1 if listeners have different ones.
        proto: The protocol number of every connection to come; -1 if listeners have different ones.
        address: The address of the dispatcher's first listener.
        ledger: The ledger, shared with all processes of the server.
        access_log: The file for a line per request; None without an access log. Owned.
        slots: The slots of all connections; None without custody.
        buffers: The memory of this worker's buffers; None without custody.
        pages: The pages of open streams (see `pages`); None without custody.
        memories: All memory that other processes have, too.
        listeners: The listeners at which this worker accepts; empty if the dispatcher accepts.
    """

    def __init__(self, message: Message) -> None:
        content = json.loads(message.data[1:])
        self.config = Config.of(content["config"])
        self.row: int = content["row"]
        self.generation: int = content["generation"]
        self.family: int = content["family"]
        self.proto: int = content["proto"]
        address = content["address"]
        if isinstance(address, list):
            address = tuple(address)
        elif address.startswith("\0"):  # an abstract name, which `socket.getsockname` returns as bytes
            address = os.fsencode(address)
        self.address: Any = address
        fds = iter(message.fds)
        self.memories = [_memory(next(fds))]
        self.ledger = Ledger(self.memories[0])
        self.access_log = next(fds) if content["access_log"] else None
        self.slots: memoryview | None = None
        self.buffers: mmap.mmap | None = None
        self.pages: mmap.mmap | None = None
        if content["custody"]:
            self.memories += [_memory(next(fds)) for _ in range(3)]
            self.slots = memoryview(self.memories[1]).cast("q")
            self.buffers, self.pages = self.memories[2:]
        self.listeners = [fd.socket() for fd in fds]


def _memory(fd: Fd) -> mmap.mmap:
    with fd:
        return mapped(fd)
