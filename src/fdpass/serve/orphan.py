"""What a dispatcher does once its keeper has ended: it learns of the end, and can become the keeper itself."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from fdpass._supervision.loop import Loop
from fdpass._supervision.notifier import Notifier
from fdpass.errors import FdpassError
from fdpass.serve.keeper.keeper import Keeper
from fdpass.serve.operator import files
from fdpass.serve.shared import roles
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.events import Event, about
from fdpass.serve.shared.logs import to_standard_error

log = logging.getLogger("fdpass.serve")


def watch_keeper(loop: Loop, keeper: int, then: Callable[[], None]) -> None:
    """Call a function once the keeper has ended.

    Args:
        loop: The dispatcher's event loop.
        keeper: The keeper's process ID.
        then: What to call, in the loop.
    """
    pidfd = -1
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(keeper)
    if os.getppid() != keeper:  # it ended before: another process can have its number by now
        if pidfd >= 0:
            os.close(pidfd)
        loop.call_later(0, then)
        return

    def on_end() -> None:
        loop.unwatch(pidfd)
        os.close(pidfd)
        then()

    loop.watch(pidfd, on_end)


def become_keeper(keeper: Keeper, config: Config, notifier: Notifier, close: Callable[[], None]) -> NoReturn:
    """Be the keeper, in the process of a dispatcher, until the server has stopped.

    The process goes on as it is: its children, the workers, remain its own, and it has the keeper's memory from
    before. Nothing of the dispatcher's stack is unwound: its descriptors are the next dispatcher's.

    Args:
        keeper: The keeper, as the dispatcher has it.
        config: The settings.
        notifier: Notifies the service manager.
        close: Closes what the last dispatcher has left open.
    """
    text = "the keeper has ended: the dispatcher %d is the keeper now (--orphan continue)"
    log.error(text, os.getpid(), extra=about(Event.KEEPER_ENDED))
    status = 1
    try:
        roles.take("keeper", score=-roles.BEHIND)
        to_standard_error(config.log_level, as_json=config.log_json)
        try:
            files.write_pidfile(config.pidfile)
        except FdpassError as error:
            log.error("%s", error)  # noqa: TRY400 - the sentence is enough
        notifier.relay(f"MAINPID={os.getpid()}")
        keeper.run_as_successor()
        close()
        status = 0
    except FdpassError as error:
        log.error("%s", error)  # noqa: TRY400 - the sentence is enough
    except BaseException:  # noqa: BLE001 - whatever it is
        traceback.print_exc()
    finally:
        try:
            files.remove_pidfile(config.pidfile)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
