"""`Commands`: what `fdpass keep list`, `restart`, `take` and `drop` make a running `fdpass keep` do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import fdpass
from fdpass._fd import Fd
from fdpass._keep.held_listeners import HeldListeners, address_of
from fdpass._keep.settings import Settings
from fdpass._keep.store import Store
from fdpass._keep.supervisor import State, Supervisor
from fdpass._supervision.commands import Command, Reply


class Commands:
    """Replies to requests, as `CommandServer` describes them.

    Args:
        settings: What the user asked for.
        supervisor: The program.
        listeners: What the program gets at each start.
        store: What the program has stored.
    """

    def __init__(self, settings: Settings, supervisor: Supervisor, listeners: HeldListeners, store: Store) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._listeners = listeners
        self._store = store

    def all(self) -> dict[str, Command]:
        """A function for each verb."""
        return {"list": self._list, "restart": self._restart, "take": self._take, "drop": self._drop}

    def _list(self, _: Mapping[str, Any], reply: Reply) -> None:
        supervisor = self._supervisor
        reply({
            "ok": True,
            "keep": {"version": fdpass.__version__, "pid": os.getpid(), "store_max": self._store.most},
            "program": {
                "command": list(self._settings.command),
                "pid": None if supervisor.program is None else supervisor.program.pid,
                "state": supervisor.state.value,
                "status": supervisor.status,
                "starts": supervisor.starts,
            },
            "listeners": [
                {"name": each.name, "kind": _kind(each.fd), "what": each.address or _what(each.fd)}
                for each in self._listeners.all
            ],
            "stored": [
                {
                    "number": each.number,
                    "name": each.name,
                    "kind": _kind(each.fd),
                    "what": _what(each.fd),
                    "polled": each.watched,
                }
                for each in self._store.all()
            ],
        })  # fmt: skip

    def _restart(self, _: Mapping[str, Any], reply: Reply) -> None:
        """Restart the program, and reply once it has started."""

        def tell(reason: str) -> None:
            program = self._supervisor.program
            if reason or program is None:
                reply({"ok": False, "error": reason})
            else:
                reply({"ok": True, "pid": program.pid, "ready": self._supervisor.state is State.READY})

        self._supervisor.restart(tell)

    def _take(self, request: Mapping[str, Any], reply: Reply) -> None:
        """Lend the descriptors with a name; the client has them removed once it has received them."""
        found = self._store.named(str(request.get("name")))
        if found:
            reply({"ok": True, "numbers": [each.number for each in found]}, [each.fd for each in found])
        else:
            self._refuse(request, reply)

    def _drop(self, request: Mapping[str, Any], reply: Reply) -> None:
        """Remove the descriptors with a name, or with numbers that `take` has replied."""
        numbers = request.get("numbers")
        if not isinstance(numbers, list):
            numbers = [each.number for each in self._store.named(str(request.get("name")))]
            if not numbers:
                self._refuse(request, reply)
                return
        reply({"ok": True, "count": self._store.remove([each for each in numbers if isinstance(each, int)])})

    def _refuse(self, request: Mapping[str, Any], reply: Reply) -> None:
        name = str(request.get("name"))
        listeners = (
            " (a listener has it, which stays)" if name in {each.name for each in self._listeners.all} else ""
        )
        reply({"ok": False, "error": f"no stored descriptor has the name {name!r}{listeners}"})


def _kind(fd: Fd) -> str:
    try:
        return fd.kind
    except OSError:
        return "other"


def _what(fd: Fd) -> str:
    """The address of a socket, or the kernel's name of another file."""
    try:
        return address_of(fd) or os.readlink(f"/proc/self/fd/{fd.fileno()}")
    except OSError:
        return ""
