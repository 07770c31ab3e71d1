"""What a main process does with the log when it begins: `configure_log` and `announce`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection

import fdpass
from fdpass._words import counted
from fdpass.errors import FdpassError
from fdpass.serve.dispatcher.listeners import Listening
from fdpass.serve.dispatcher.pool.generation import Generation
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.events import Event, about
from fdpass.serve.shared.logs import configure

log = logging.getLogger("fdpass.serve")


def announce(config: Config, listeners: Collection[Listening]) -> None:
    """Log that the server begins."""
    log.info(
        "fdpass %s listens at %s, and starts %s for %s",
        fdpass.__version__,
        ", ".join(each.name for each in listeners),
        counted(config.workers + config.spare, "worker"),
        config.app,
        extra=about(Event.SERVER_STARTED),
    )


def configure_log(generation: Generation) -> None:
    """Log as the generation's settings say; into files of this process, if they name any."""
    config = generation.config
    try:
        with contextlib.chdir(generation.folder or "."):
            configure(config.log_level, as_json=config.log_json, file=config.log_config)
    except (FdpassError, OSError) as error:
        log.error("the dispatcher logs to standard error: %s", error)  # noqa: TRY400 - the sentence is enough
