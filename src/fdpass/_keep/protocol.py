"""`Protocol`: does what a notification says: stores and removes descriptors, and notes the program's state."""

from __future__ import annotations

import logging
from collections.abc import Collection

from fdpass._keep import processes
from fdpass._keep.notification import DEFAULT_NAME, Malformed, Notification, parse
from fdpass._keep.program import Program
from fdpass._keep.relay import Relay
from fdpass._keep.store import Store
from fdpass._keep.supervisor import State, Supervisor
from fdpass._message import Message
from fdpass._peer import Allow, Peer, same_user
from fdpass._words import counted
from fdpass.errors import CallFailed

log = logging.getLogger("fdpass.keep")


class Protocol:
    """Carries out notifications, in the order in which they were sent.

    Args:
        supervisor: The program. Set before the first notification.
        store: Its descriptors.
        relay: Tells an outer service manager.
        uids: Users whose processes may notify, besides this process's own user and root.
    """

    def __init__(self, store: Store, relay: Relay, uids: Collection[int]) -> None:
        self._store = store
        self._relay = relay
        self._allow = Allow(uids=uids)
        self.supervisor: Supervisor | None = None

    def may_notify(self, pid: int, uid: int) -> bool:
        """Whether a process may notify: the program itself, also as another user, and processes of these users."""
        program = self.supervisor.program if self.supervisor is not None else None
        if program is not None and pid == program.pid:
            return True
        sender = Peer(pid, uid, -1)
        return same_user(sender) or self._allow(sender)

    def on_message(self, message: Message) -> None:
        """Carry out a notification, whose descriptors are taken out of it or left to be closed."""
        try:
            said = parse(message.data)
        except Malformed as error:
            log.warning("ignored a notification: %s", error)
            return
        if said.barrier:
            if len(message) != 1:
                log.warning("BARRIER=1 came with %s instead of 1", counted(len(message), "descriptor"))
            return  # with the message its descriptor is closed, which is the answer
        self._note(said)
        if said.main_pid is not None:
            self._follow(said.main_pid)
        if said.remove:  # before the new ones: one notification can replace a descriptor
            self._remove(said)
        if said.store:
            self._add(said, message)
        self._relay.pass_on(said)

    def _note(self, said: Notification) -> None:
        supervisor = self.supervisor
        if supervisor is None or supervisor.program is None:
            return
        if said.status is not None:
            supervisor.status = said.status
        if supervisor.state is not State.STOPPING:
            if said.reloading:
                supervisor.state = State.RELOADING
            if said.ready:
                supervisor.on_ready()
            if said.stopping:
                supervisor.state = State.STOPPING

    def _follow(self, pid: int) -> None:
        supervisor = self.supervisor
        if supervisor is None or supervisor.program is None or pid == supervisor.program.pid:
            return
        if not processes.is_descendant(pid):
            log.warning("ignored MAINPID=%d: the process is not one of the program", pid)
            return
        try:
            supervisor.follow(Program(pid))
        except CallFailed as error:
            log.warning("ignored MAINPID=%d: %s", pid, error)

    def _remove(self, said: Notification) -> None:
        if said.name is None:
            log.warning("ignored FDSTOREREMOVE=1: it needs FDNAME, with a valid name")
            return
        self._store.remove([each.number for each in self._store.named(said.name)])

    def _add(self, said: Notification, message: Message) -> None:
        if said.invalid_name:
            log.warning("ignored FDNAME: the name is not valid; the descriptors are called %r", DEFAULT_NAME)
        name = DEFAULT_NAME if said.name is None else said.name
        refused = self._store.add(message.fds, name, poll=said.poll)
        if refused:
            log.warning(
                "the store is full: %s called %r of this notification were not stored (--store-max is %d)",
                counted(refused, "descriptor"),
                name,
                self._store.most,
            )
