"""`Settings` of `fdpass keep`, and two rules: when to restart the program, and which code to exit with. Pure."""

from __future__ import annotations

import signal
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Restart = Literal["always", "on-failure", "no"]

# As SuccessExitStatus of systemd.service(5).
_CLEAN = {-signal.SIGHUP, -signal.SIGINT, -signal.SIGTERM, -signal.SIGPIPE}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user asked for.

    Attributes:
        command: Name or path of the program, and its arguments.
        control: Path of the control socket; "" for the default one.
        listen: Addresses of the listeners, as ``[NAME=]ADDRESS``.
        restart: When the program is started again.
        stop_timeout: Seconds that the program has to end after SIGTERM.
        store_max: How many descriptors the program may store; None: 512, or fewer if no more fit.
        store_uids: Users whose processes may store descriptors, besides this process's own user and root.
    """

    command: tuple[str, ...]
    control: str = ""
    listen: tuple[str, ...] = ()
    restart: Restart = "on-failure"
    stop_timeout: float = 10.0
    store_max: int | None = None
    store_uids: Collection[int] = ()


def is_restarted(restart: Restart, status: int | None) -> bool:
    """Whether a program that ended by itself is started again.

    Args:
        restart: The setting. With ``on-failure`` the exit code 0 is no failure, nor is one of the four signals
            with which people stop programs.
        status: Exit code, or minus the number of the signal; None if it is not known.
    """
    return restart == "always" or (restart == "on-failure" and status != 0 and status not in _CLEAN)


def exit_code(status: int | None, *, stopped: bool) -> int:
    """The exit code of `fdpass keep`: the program's own, or 128 and the number of the signal, as in a shell.

    Args:
        status: As for `is_restarted`.
        stopped: Whether the program was told to stop: then its death by SIGTERM is a success.
    """
    if status is None:
        return 0 if stopped else 1
    if stopped and status == -signal.SIGTERM:
        return 0
    return status if status >= 0 else 128 - status
