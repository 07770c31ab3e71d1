"""`Store`: the descriptors that `fdpass keep` holds for its program, by the rules of systemd's store."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from fdpass._fd import Fd
from fdpass._keep.same_file import Identity, identity, same_file
from fdpass._linger import forget_linger
from fdpass._supervision.loop import Loop
from fdpass._words import counted

log = logging.getLogger("fdpass.keep")

_MOST_NAME_BYTES = 120_000  # execve(2) takes at most 131,072 bytes for one variable, here LISTEN_FDNAMES


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored descriptor.

    Attributes:
        number: Its number in the store, which no later one gets.
        name: Its FDNAME.
        fd: The descriptor. Owned by the store.
        watched: Whether the store removes the descriptor once epoll reports EPOLLHUP or EPOLLERR for it.
        identity: Device and inode.
    """

    number: int
    name: str
    fd: Fd
    watched: bool
    identity: Identity


class Store:
    """Holds descriptors in the order in which they came.

    Args:
        loop: Event loop that watches the descriptors for their end.
        most: How many descriptors there may be.
        names: Names of the listeners, which LISTEN_FDNAMES has to hold as well.
    """

    def __init__(self, loop: Loop, most: int, names: Iterable[str] = ()) -> None:
        self._loop = loop
        self.most = most
        self._stored: dict[int, Stored] = {}  # by number, the oldest first
        self._by_identity: dict[Identity, list[Stored]] = {}
        self._numbers = itertools.count(1)
        self._name_bytes = sum(len(name) + 1 for name in names)

    def __len__(self) -> int:
        return len(self._stored)

    def all(self) -> list[Stored]:
        """All stored descriptors, the oldest first. Lent."""
        return list(self._stored.values())

    def named(self, name: str) -> list[Stored]:
        """The stored descriptors with this name. Lent."""
        return [each for each in self._stored.values() if each.name == name]

    def add(self, fds: Iterable[Fd], name: str, *, poll: bool) -> int:
        """Store descriptors, and close those for which there is no room, and those that are stored already.

        Args:
            fds: The descriptors. Taken over.
            name: Their name.
            poll: Remove each once epoll reports EPOLLHUP or EPOLLERR for it.

        Returns:
            How many were not stored because the store is full.
        """
        refused = 0
        for fd in fds:
            place = identity(fd.fileno())
            # As in systemd, a full store is reported even for a descriptor that is stored already.
            if len(self) >= self.most or self._name_bytes + len(name) + 1 > _MOST_NAME_BYTES:
                refused += 1
            elif not any(same_file(fd.fileno(), one.fd.fileno()) for one in self._by_identity.get(place, ())):
                self._add(Fd(fd.take()), name, place, poll=poll)
                continue
            _close(fd)
        return refused

    def _add(self, fd: Fd, name: str, place: Identity, *, poll: bool) -> None:
        number = next(self._numbers)
        watched = poll and self._watch(fd, number)
        self._stored[number] = stored = Stored(number, name, fd, watched, place)
        self._by_identity.setdefault(place, []).append(stored)
        self._name_bytes += len(name) + 1

    def _watch(self, fd: Fd, number: int) -> bool:
        """Watch a descriptor for its end. False if epoll cannot watch it: regular files, memfds."""
        try:
            self._loop.watch(fd.fileno(), lambda: self._on_end(number), events=0)
        except OSError:
            return False
        return True

    def _on_end(self, number: int) -> None:
        log.debug("a stored descriptor (%s) has ended, and is removed", self._stored[number].name)
        self.remove([number])

    def remove(self, numbers: Collection[int]) -> int:
        """Remove and close the stored descriptors with these numbers. Returns how many there were."""
        found = [self._stored.pop(number) for number in numbers if number in self._stored]
        for stored in found:
            others = self._by_identity[stored.identity]
            others.remove(stored)
            if not others:
                del self._by_identity[stored.identity]
            self._name_bytes -= len(stored.name) + 1
            if stored.watched:
                self._loop.unwatch(stored.fd.fileno())
            _close(stored.fd)
        return len(found)

    def close(self) -> None:
        """Close all."""
        if count := self.remove(list(self._stored)):
            log.info("closed %s that the program had stored", counted(count, "descriptor"))


def _close(fd: Fd) -> None:
    forget_linger(fd.fileno())
    with contextlib.suppress(OSError):  # what close(2) reports is the affair of the process that wrote
        fd.close()
