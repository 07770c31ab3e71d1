"""Limits of the machine: how many connections fit into open files and memory."""

from __future__ import annotations

import contextlib
import os
import resource

from fdpass._words import counted
from fdpass.errors import ConfigError
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.ledger import RING
from fdpass.serve.shared.slots import BUFFER_SIZE, MOST_BUFFERS, SLOT_SIZE

_RESERVED = 256  # descriptors that a process keeps for itself: libraries, files, databases


def raise_descriptor_limit() -> int:
    """Raise the limit on open files to the hard limit, for the workers too.

    Returns:
        How many connections one process may have, after the descriptors that it needs for itself.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 2**20  # fs.nr_open, as a rule
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - min(_RESERVED, soft // 2))


def most_connections(config: Config, capacity: int) -> int:
    """How many connections may live at once.

    Args:
        config: The settings.
        capacity: The most connections of one process.

    Raises:
        ConfigError: ``--max-connections`` is more than fits; the message has the numbers.
    """
    fits = capacity if config.keeps else capacity * config.workers
    if config.max_connections > fits:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if config.keeps:
            raise ConfigError(
                f"--max-connections {config.max_connections:,} cannot fit: the dispatcher keeps a duplicate of "
                f"each, may have {limit:,} open files (ulimit -Hn), and needs {limit - capacity:,} for itself; "
                "raise the limit, or use --custody off"
            )
        raise ConfigError(
            f"--max-connections {config.max_connections:,} cannot fit: a process may have {limit:,} open files "
            f"(ulimit -Hn) and needs {limit - capacity:,} for itself, so "
            f"{counted(config.workers, 'worker')} can have {fits:,} connections; "
            "raise the limit, or have more workers"
        )
    most = config.max_connections or fits
    if config.keeps and (needed := most_memory(config, most)) > (available := _memory()):
        raise ConfigError(
            f"{most:,} connections and {config.workers + config.spare} workers can need {needed >> 20:,} MiB of "
            f"shared memory, and this machine has {available >> 20:,}; lower --max-connections, or use "
            "--custody off"
        )
    return most


def buffers_each(config: Config) -> int:
    """How many receive buffers each worker has: all together up to `MOST_BUFFERS`, and an eighth of the memory."""
    most = min(MOST_BUFFERS, _memory() // 8 // BUFFER_SIZE, config.max_connections or MOST_BUFFERS)
    return max(16, most // (config.workers + config.spare))


def most_memory(config: Config, most: int) -> int:
    """The most bytes of shared memory that custody of ``most`` connections can take, the ledger included."""
    workers = config.workers + config.spare
    return SLOT_SIZE * most + BUFFER_SIZE * buffers_each(config) * workers + RING * 8 * workers


def _memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")
