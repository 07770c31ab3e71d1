"""What /proc tells about the descriptors of a process: kinds, socket addresses, descriptors in flight.

`descriptors` reads, and changes nothing; the functions that understand the kernel's tables take their
text, so they can be tried on any text. What ends or closes while it is being read is left out. Formats:
proc(5), proc_pid_fdinfo(5), and the kernel's Documentation/networking/proc_net_tcp.rst.
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
from fdpass._fd import kind_from

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
        local: Its own address: ``127.0.0.1:80``, ``[::1]:80``, a path, ``@abstract``; None if unnamed.
        remote: Its peer's address; None if it has no peer, and for Unix sockets, where no table tells.
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
        kind: The words of `fdpass.Fd.kind`.
        access: r, w, rw, or path (opened with O_PATH).
        target: What the link in /proc/PID/fd says: a path, or the kernel's name for it.
        position: The offset at which the next read or write happens; 0 where there is no such thing.
        close_on_exec: False if a program that the process starts inherits it.
        endpoint: For a socket that a table knows: its addresses.
        in_flight: For a Unix socket: how many descriptors wait in its receive queue (Linux 5.6 and later).
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
    """An address of /proc/net/tcp or udp, such as ``0100007F:1F90``, as people write it; None for none."""
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
            continue  # the tail of a path with a newline in it
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
        NoSuchProcess: There is none with this number.
    """
    with _explained(pid):
        return _text(f"/proc/{pid}/comm").removesuffix("\n")


def descriptors(pid: int) -> list[Descriptor]:
    """Every descriptor of a process, in order of number.

    Raises:
        NoSuchProcess: There is none with this number.
        NotPermitted: It is another user's: ptrace(2) says who may look (PTRACE_MODE_READ_FSCREDS).
    """
    with _explained(pid):
        numbers = sorted(int(place.name) for place in Path(f"/proc/{pid}/fd").iterdir())
        found = [seen for number in numbers if (seen := _look(pid, number)) is not None]
    if not any(seen.kind == "socket" for seen in found):
        return found
    endpoints = dict(_endpoints(pid))
    return [_with_endpoint(seen, endpoints) if seen.kind == "socket" else seen for seen in found]


@contextmanager
def _explained(pid: int) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, ProcessLookupError) as error:
        raise NoSuchProcess(errno.ESRCH, f"no process has the number {pid}") from error
    except OSError as error:
        raise translated(error, f"cannot look into process {pid} (be its user, or root)") from error


def _text(path: str) -> str:
    return os.fsdecode(Path(path).read_bytes())


def _look(pid: int, number: int) -> Descriptor | None:
    """One descriptor; None if it was closed meanwhile."""
    place = Path(f"/proc/{pid}/fd/{number}")
    try:
        target, mode = str(place.readlink()), place.stat().st_mode
        fields = fdinfo(_text(f"/proc/{pid}/fdinfo/{number}"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    flags = int(fields.get("flags", "0"), 8)
    waiting = fields.get("scm_fds")
    return Descriptor(
        number=number,
        kind=kind_from(mode, target),
        access="path" if flags & os.O_PATH else _ACCESS.get(flags & os.O_ACCMODE, "?"),
        target=target,
        position=int(fields.get("pos", "0")),
        close_on_exec=bool(flags & os.O_CLOEXEC),
        endpoint=None,
        in_flight=None if waiting is None else int(waiting),
    )


def _endpoints(pid: int) -> Iterator[tuple[int, Endpoint]]:
    """Every socket of the network namespace in which the process lives."""
    for protocol in ("tcp", "tcp6", "udp", "udp6", "unix"):
        try:
            text = _text(f"/proc/{pid}/net/{protocol}")
        except OSError:
            continue  # no IPv6 in this kernel, or the process has ended
        yield from (unix_sockets(text) if protocol == "unix" else inet_sockets(text, protocol)).items()


def _with_endpoint(seen: Descriptor, endpoints: dict[int, Endpoint]) -> Descriptor:
    inode = seen.target.removeprefix("socket:[").removesuffix("]")
    endpoint = endpoints.get(int(inode)) if inode.isdecimal() else None
    kind = "listener" if endpoint is not None and endpoint.state == "listening" else "socket"
    return replace(seen, kind=kind, endpoint=endpoint)
