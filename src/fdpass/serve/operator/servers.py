"""Finds the running servers of this user, and the default path of a control socket that is free for one more."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fdpass import _sock_diag
from fdpass.serve.operator.client import default_path, status_at

_LEDGER = "/memfd:fdpass-ledger"
_NAMES = {"fdpass-server\n", "fdpass-keeper\n"}  # of a main process: see `roles.take`
_SOCKET = re.compile(r"socket:\[(\d+)\]").fullmatch
_LISTENING = 10  # a state of TCP, which the kernel uses for Unix sockets too
_PATH_MAX = 107  # bytes: sun_path of unix(7), without its final zero


def running() -> list[tuple[str, dict[str, Any]]]:
    """Return each running server's control socket and status, the oldest first; root finds those of all users.

    A server is a process that has a ledger and a listening socket of type seqpacket.
    """
    names = _seqpacket_listeners()
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())
    found = [each for pid in pids for each in _servers_of(pid, names)]
    return sorted(found, key=lambda each: -each[1]["server"].get("uptime", 0))


def is_serving(pid: int) -> bool:
    """Whether a process is the main process of a server that is not stopping, as far as it says so.

    A server that has just begun may have no ledger yet, and one that is suspended or busy does not answer. But one
    whose control socket is closed has stopped; and one whose path is this process's by now is stopping.
    """
    targets = list(_targets(pid))
    if not (_has_ledger(targets) or _name(pid) in _NAMES):
        return False
    names = _seqpacket_listeners()
    paths = {*_controls_of(pid, targets, names)} - {*_controls_of(os.getpid(), _targets(os.getpid()), names)}
    return any(_serves(pid, path) for path in paths)


def _serves(pid: int, path: str) -> bool:
    """Whether the server at a path is this process's, and not stopping; or does not answer, but listens."""
    status = status_at(path)
    if status is None:
        return path in _controls_of(pid, _targets(pid), _seqpacket_listeners())
    return status["server"].get("pid") == pid and not status["server"].get("stopping")


def _servers_of(pid: int, names: Mapping[int, bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The control socket and the status of the server whose main process this is.

    Args:
        pid: The process.
        names: See `_seqpacket_listeners`.
    """
    targets = list(_targets(pid))
    if not _has_ledger(targets):
        return
    for path in _controls_of(pid, targets, names):
        status = status_at(path)
        if status is not None and status["server"].get("pid") == pid:
            yield path, status


def _has_ledger(targets: Iterable[str]) -> bool:
    return any(target.startswith(_LEDGER) for target in targets)


def _controls_of(pid: int, targets: Iterable[str], names: Mapping[int, bytes]) -> Iterator[str]:
    """The paths of the listening sockets of type seqpacket among what the descriptors of a process refer to."""
    inodes = [int(match[1]) for target in targets if (match := _SOCKET(target))]
    return (_path(pid, names[inode]) for inode in inodes if inode in names)


def _seqpacket_listeners() -> dict[int, bytes]:
    """By inode, the name of each listening socket of type seqpacket; empty if the kernel does not say."""
    with contextlib.suppress(OSError):
        return {
            sock.inode: sock.name
            for sock in _sock_diag.unix_sockets()
            if sock.name and sock.state == _LISTENING and sock.type == socket.SOCK_SEQPACKET
        }
    return {}


def _targets(pid: int) -> Iterator[str]:
    """What the descriptors of a process refer to; nothing if it has ended, or is another user's."""
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                yield os.readlink(f"{folder}/{name}")


def _name(pid: int) -> str:
    """The name of a process, with a newline; "" if it has ended."""
    with contextlib.suppress(OSError, UnicodeDecodeError), open(f"/proc/{pid}/comm", encoding="ascii") as file:
        return file.read()
    return ""


def _path(pid: int, name: bytes) -> str:
    """The address of a process's socket; a relative path is relative to the process's folder."""
    if name.startswith(b"\0"):
        return "@" + os.fsdecode(name[1:])
    path = os.fsdecode(name.rstrip(b"\0"))  # the kernel tells it with the zero at its end
    with contextlib.suppress(OSError):
        path = os.path.normpath(os.path.join(os.readlink(f"/proc/{pid}/cwd"), path))
    return path


def free_path(addresses: Sequence[str]) -> str:
    """Return the path of a control socket for a server that was given none.

    It is the default path, unless a server with other addresses has it: then the first address is in the name. If
    a server with one of these addresses has the default path, the new server is its successor, or a mistake.

    Args:
        addresses: The addresses of the new server's listeners.

    Raises:
        ConfigError: No folder belongs to this user alone.
    """
    first = default_path()
    status = status_at(first) if os.path.exists(first) else None
    if status is None or status["server"].get("stopping") or {*status["server"]["listeners"]} & {*addresses}:
        return first
    stem, name = first.removesuffix(".sock"), re.sub(r"[^0-9A-Za-z.:_-]+", "-", addresses[0])
    path = f"{stem}-{name}.sock"
    if len(os.fsencode(path)) > _PATH_MAX:  # of a Unix socket
        path = f"{stem}-unix:{hashlib.sha256(os.fsencode(addresses[0])).hexdigest()[:16]}.sock"
    return path
