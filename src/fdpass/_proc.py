"""Reads the descriptors of a process from /proc: kinds, socket addresses, descriptors in flight.

`descriptors` leaves out what is closed while it reads. The functions that parse the kernel's tables take text, so
that tests can call them. Formats: proc(5), proc_pid_fdinfo(5), and the kernel's
Documentation/networking/proc_net_tcp.rst.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fdpass._errors import NoSuchProcess, translated
from fdpass._kinds import kind_from

_TCP_STATES = {
    "01": "established",
    "02": "syn-sent",
    "03": "syn-received",
    "04": "fin-wait-1",
    "05": "fin-wait-2",
    "06": "time-wait",
    "07": "closed",
    "08": "close-wait",
    "09": "last-ack",
    "0A": "listening",
    "0B": "closing",
    "0C": "syn-received",
}
_UDP_STATES = {"01": "connected", "07": "unconnected"}
_UNIX_STATES = {"01": "unconnected", "02": "connecting", "03": "connected", "04": "disconnecting"}
_UNIX_TYPES = {"0001": "stream", "0002": "dgram", "0005": "seqpacket"}
_UNIX_LISTENS = 0x10000  # __SO_ACCEPTCON in the Flags column
_ACCESS = {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "rw"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One socket, as a table in /proc/PID/net shows it.

    Attributes:
        protocol: tcp, tcp6, udp, udp6 or unix.
        type: stream, dgram or seqpacket.
        state: listening, established, connected, ...
        local: Its own address: ``127.0.0.1:80``, ``[::1]:80``, a path, ``@abstract``; None if it has none.
        remote: Its peer's address; None if it has no peer, and for Unix sockets, whose table lacks it.
    """

    protocol: str
    type: str
    state: str
    local: str | None
    remote: str | None


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One open descriptor of a process.

    Attributes:
        number: The descriptor's number in that process.
        kind: The kind, as `fdpass.Fd.kind` names it.
        access: r, w, rw, path (opened with O_PATH), or ? (access mode 3 of open(2)).
        target: The link in /proc/PID/fd: a path, or the kernel's name for the file.
        position: The offset of the next read or write; 0 if the file has no offset.
        close_on_exec: False if programs that the process starts inherit the descriptor.
        endpoint: The socket's row in a table of /proc/PID/net; None if it has none.
        in_flight: For a Unix socket: how many descriptors wait in its receive queue (Linux 5.6); else None.
    """

    number: int
    kind: str
    access: str
    target: str
    position: int
    close_on_exec: bool
    endpoint: Endpoint | None
    in_flight: int | None


def fdinfo(text: str) -> dict[str, str]:
    """The fields of a /proc/PID/fdinfo file."""
    fields = (line.partition(":") for line in text.split("\n"))
    return {name: value.strip() for name, colon, value in fields if colon}


def address(text: str) -> str | None:
    """Parse an address of /proc/net/tcp or udp: ``0100007F:1F90`` is ``127.0.0.1:8080``; all zeros is None."""
    digits, _, port = text.partition(":")
    raw = bytes.fromhex(digits)
    # The kernel prints each 32-bit word, which is in network order, as a number of this machine.
    words = (int.from_bytes(raw[i : i + 4], "big").to_bytes(4, sys.byteorder) for i in range(0, len(raw), 4))
    packed = b"".join(words)
    number = int(port, 16)
    if not number and not any(packed):
        return None
    if len(packed) == 4:
        return f"{socket.inet_ntop(socket.AF_INET, packed)}:{number}"
    return f"[{socket.inet_ntop(socket.AF_INET6, packed)}]:{number}"


def inet_sockets(text: str, protocol: str) -> dict[int, Endpoint]:
    """The sockets of a tcp, tcp6, udp or udp6 table, by inode number."""
    tcp = protocol.startswith("tcp")
    kind, states = ("stream", _TCP_STATES) if tcp else ("dgram", _UDP_STATES)
    found = {}
    for line in text.split("\n")[1:]:
        if len(columns := line.split()) > 9:
            local, remote, state = columns[1:4]
            found[int(columns[9])] = Endpoint(
                protocol, kind, states.get(state, state), address(local), address(remote)
            )
    return found


def unix_sockets(text: str) -> dict[int, Endpoint]:
    """The sockets of a unix table, by inode number."""
    found = {}
    for line in text.split("\n")[1:]:
        columns = line.split(None, 7)
        if len(columns) < 7 or not columns[6].isdecimal():
            continue  # the second line of a path that contains a newline
        _, _, _, flags, sort, state, inode, *path = columns
        listening = int(flags, 16) & _UNIX_LISTENS
        found[int(inode)] = Endpoint(
            "unix",
            _UNIX_TYPES.get(sort, sort),
            "listening" if listening else _UNIX_STATES.get(state, state),
            path[0] if path else None,
            None,
        )
    return found


def name(pid: int) -> str:
    """The short name of a process, as ps shows it.

    Raises:
        NoSuchProcess: No process has this number.
    """
    with _translating_errors(pid):
        return _text(f"/proc/{pid}/comm").removesuffix("\n")


def descriptors(pid: int) -> list[Descriptor]:
    """Every descriptor of a process, in order of number.

    Raises:
        NoSuchProcess: No process has this number.
        NotPermitted: You may not read another user's process (ptrace(2), PTRACE_MODE_READ_FSCREDS).
    """
    with _translating_errors(pid):
        numbers = sorted(int(link.name) for link in Path(f"/proc/{pid}/fd").iterdir())
        found = [each for number in numbers if (each := _descriptor(pid, number)) is not None]
    if not any(each.kind == "socket" for each in found):
        return found
    endpoints = dict(_endpoints(pid))
    return [_with_endpoint(each, endpoints) if each.kind == "socket" else each for each in found]


@contextmanager
def _translating_errors(pid: int) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, ProcessLookupError) as error:
        raise NoSuchProcess(errno.ESRCH, f"no process has the number {pid}") from error
    except OSError as error:
        raise translated(error, f"cannot look into process {pid} (be its user, or root)") from error


def _text(path: str) -> str:
    return os.fsdecode(Path(path).read_bytes())


def _descriptor(pid: int, number: int) -> Descriptor | None:
    """Read one descriptor; None if it was closed meanwhile."""
    link = Path(f"/proc/{pid}/fd/{number}")
    try:
        target, found = str(link.readlink()), link.stat()
        fields = fdinfo(_text(f"/proc/{pid}/fdinfo/{number}"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    flags = int(fields.get("flags", "0"), 8)
    waiting = fields.get("scm_fds")
    return Descriptor(
        number=number,
        kind=kind_from(found, target),
        access="path" if flags & os.O_PATH else _ACCESS.get(flags & os.O_ACCMODE, "?"),
        target=target,
        position=int(fields.get("pos", "0")),
        close_on_exec=bool(flags & os.O_CLOEXEC),
        endpoint=None,
        in_flight=None if waiting is None else int(waiting),
    )


def _endpoints(pid: int) -> Iterator[tuple[int, Endpoint]]:
    """Every socket in the network namespace of the process, by inode number."""
    for protocol in ("tcp", "tcp6", "udp", "udp6", "unix"):
        try:
            text = _text(f"/proc/{pid}/net/{protocol}")
        except OSError:
            continue  # no IPv6 in this kernel, or the process has ended
        yield from (unix_sockets(text) if protocol == "unix" else inet_sockets(text, protocol)).items()


def _with_endpoint(descriptor: Descriptor, endpoints: dict[int, Endpoint]) -> Descriptor:
    inode = descriptor.target.removeprefix("socket:[").removesuffix("]")
    endpoint = endpoints.get(int(inode)) if inode.isdecimal() else None
    kind = "listener" if endpoint is not None and endpoint.state == "listening" else "socket"
    return replace(descriptor, kind=kind, endpoint=endpoint)
