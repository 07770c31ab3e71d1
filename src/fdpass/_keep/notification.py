"""`Notification`: one datagram of sd_notify(3), read by the rules of systemd. Pure.

A datagram has a ``NAME=value`` assignment on each line. Where a name occurs twice, the first one counts. systemd
ignores names that it does not know, and so does this module.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST_BYTES = 4096  # systemd ignores a whole datagram that is longer
DEFAULT_NAME = "stored"  # of descriptors without a valid FDNAME

_NAME = re.compile(r"[ -9;-~]{0,255}")  # FDNAME of sd_notify(3): ASCII without control characters and ":"
_PID = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
_RELAYED = ("WATCHDOG", "EXTEND_TIMEOUT_USEC", "MONOTONIC_USEC")


class Malformed(ValueError):
    """systemd would ignore the whole datagram; the text says why."""


@dataclass(frozen=True, slots=True)
class Notification:
    """What a program has said.

    Attributes:
        ready: READY=1: it has started, or its reload has ended.
        reloading: RELOADING=1: a reload has begun.
        stopping: STOPPING=1: it has begun to stop.
        status: STATUS, a line for people; None if the datagram has none.
        main_pid: MAINPID, the process that is the program from now on; None if the datagram has none.
        store: FDSTORE=1: the descriptors are to be stored.
        remove: FDSTOREREMOVE=1: the descriptors with the name are to be removed.
        name: FDNAME; None if the datagram has none, or has one that is not valid.
        invalid_name: Whether FDNAME was not valid.
        poll: False with FDPOLL=0: a stored descriptor stays although its peer has ended.
        barrier: BARRIER=1: the descriptor is to be closed once all datagrams before this one are handled.
        relayed: Assignments that only an outer service manager can use, as they came.
    """

    ready: bool = False
    reloading: bool = False
    stopping: bool = False
    status: str | None = None
    main_pid: int | None = None
    store: bool = False
    remove: bool = False
    name: str | None = None
    invalid_name: bool = False
    poll: bool = True
    barrier: bool = False
    relayed: tuple[str, ...] = ()


def is_valid_name(name: str) -> bool:
    """Whether a descriptor can have this name in LISTEN_FDNAMES."""
    return _NAME.fullmatch(name) is not None


def parse(data: bytes) -> Notification:
    """Read a datagram.

    Raises:
        Malformed: The datagram is longer than `MOST_BYTES`, has a zero byte before its end, or mixes BARRIER=1
            with other assignments.
    """
    if len(data) > MOST_BYTES:
        raise Malformed(f"it is longer than {MOST_BYTES} bytes")
    text = data.removesuffix(b"\0")
    if b"\0" in text:
        raise Malformed("it has a zero byte")
    lines = [line for line in text.decode("utf-8", "surrogateescape").split("\n") if line]
    if "BARRIER=1" in lines and len(lines) > 1:
        raise Malformed("BARRIER=1 must be the only assignment")
    found: dict[str, str] = {}
    for line in lines:
        name, equals, value = line.partition("=")
        if equals:
            found.setdefault(name, value)
    return _notification(found)


def _notification(found: dict[str, str]) -> Notification:
    name, main_pid = found.get("FDNAME"), found.get("MAINPID", "")
    valid = name is not None and is_valid_name(name)
    return Notification(
        ready=found.get("READY") == "1",
        reloading=found.get("RELOADING") == "1",
        stopping=found.get("STOPPING") == "1",
        status=_text(found.get("STATUS")),
        main_pid=int(main_pid) if _PID.fullmatch(main_pid) else None,
        store=found.get("FDSTORE") == "1",
        remove=found.get("FDSTOREREMOVE") == "1",
        name=name if valid else None,
        invalid_name=name is not None and not valid,
        poll=found.get("FDPOLL") != "0",
        barrier=found.get("BARRIER") == "1",
        relayed=tuple(f"{key}={found[key]}" for key in _RELAYED if found.get(key, "").isalnum()),
    )


def _text(status: str | None) -> str | None:
    """STATUS, if it is UTF-8."""
    if status is None:
        return None
    try:
        status.encode()
    except UnicodeEncodeError:
        return None
    return status
