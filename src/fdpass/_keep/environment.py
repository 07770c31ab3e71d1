"""`environment`: the variables of the program, without those that are for `fdpass keep` itself."""

from __future__ import annotations

import os

_OWN_VARIABLES = {
    *("NOTIFY_SOCKET", "FDSTORE", "WATCHDOG_PID"),
    *("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"),
}


def environment() -> dict[str, str]:
    """This process's variables without those that its own service manager set for it.

    WATCHDOG_USEC stays: the program feeds the watchdog of this process, through the relay.
    """
    own = set(_OWN_VARIABLES)
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        own.add("WATCHDOG_USEC")
    return {name: value for name, value in os.environ.items() if name not in own}
