"""`Relay`: what the service manager of `fdpass keep` itself hears, if there is one."""

from __future__ import annotations

import os

from fdpass._keep.notification import Notification
from fdpass._supervision.notifier import Notifier


class Relay:
    """Passes notifications of the program on.

    Args:
        notifier: Sends to the outer service manager, if there is one. Lent.
        restarts: Whether the program can be started again after it said STOPPING=1.
    """

    def __init__(self, notifier: Notifier, *, restarts: bool) -> None:
        self._notifier = notifier
        self._restarts = restarts
        self._stopping = False

    def pass_on(self, said: Notification) -> None:
        """Pass on what concerns the outer service manager; MAINPID and stored descriptors do not."""
        fields = []
        if said.ready:
            fields += ["READY=1", f"MAINPID={os.getpid()}"]
        if said.reloading:
            fields.append("RELOADING=1")
        if said.status is not None:
            self._notifier.status(said.status)
        # After STOPPING=1 systemd waits for the end of the main process, which is this one.
        if said.stopping and not self._restarts:
            self.stopping()
        self._notifier.relay(*fields, *said.relayed)

    def stopping(self) -> None:
        """Tell once that `fdpass keep` has begun to stop."""
        if not self._stopping:
            self._stopping = True
            self._notifier.stopping()
