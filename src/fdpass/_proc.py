"""Reads the descriptors of a process from /proc: kinds, socket addresses, descriptors in flight.

`descriptors` leaves out what is closed while it reads. The functions that parse the kernel's tables take text, so
that tests can call them. Formats: proc(5), proc_pid_fdinfo(5), and the kernel's
Documentation/networking/proc_net_tcp.rst.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fdpass import _ptrace, _sock_diag
from fdpass._errors import NoSuchProcess, NotPermitted, translated
from fdpass._kinds import kind_from
from fdpass._sock_diag import UnixSocket

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
_UNIX_TYPES = {1: "stream", 2: "dgram", 5: "seqpacket"}
_UNIX_DIAG_STATES = {1: "connected", 2: "connecting", 7: "unconnected", 10: "listening"}
_UNIX_ROW = re.compile(
    r"[0-9a-f]+: [0-9A-F]{8} [0-9A-F]{8} (?P<flags>[0-9A-F]{8}) (?P<type>[0-9A-F]{4}) (?P<state>[0-9A-F]{2}) "
    r" *(?P<inode>[0-9]+)(?: (?P<path>.*))?"
)
_UNIX_LISTENS = 0x10000  # __SO_ACCEPTCON in the Flags column
_ACCESS = {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "rw"}


AMBIGUOUS = "ambiguous: several rows of /proc/net/unix claim this socket"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One socket, as a table in /proc/PID/net or sock_diag(7) shows it.

    Attributes:
        protocol: tcp, tcp6, udp, udp6 or unix.
        type: stream, dgram or seqpacket.
        state: listening, established, connected, ...
        local: Its own address: ``127.0.0.1:80``, ``[::1]:80``, a path, ``@abstract``; None if it has none.
        remote: Its peer's address; None if it has no peer, or the peer has no address. If sock_diag is refused, or
            the process is in another network namespace, a Unix socket has none: /proc/PID/net/unix lacks peers.
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
    """The sockets of a unix table, by inode number.

    A name can contain a newline, and after it the row of another socket. So an inode number with several rows
    that differ gets no address, and the state `AMBIGUOUS`.
    """
    found: dict[int, Endpoint] = {}
    for row in map(_UNIX_ROW.fullmatch, text.split("\n")[1:]):
        if row is None:
            continue  # the second line of a path that contains a newline
        listening = int(row["flags"], 16) & _UNIX_LISTENS
        state = "listening" if listening else _UNIX_STATES.get(row["state"], row["state"])
        kind = _UNIX_TYPES.get(int(row["type"], 16), row["type"])
        endpoint = Endpoint("unix", kind, state, row["path"], None)
        inode = int(row["inode"])
        if found.setdefault(inode, endpoint) != endpoint:
            found[inode] = Endpoint("unix", "?", AMBIGUOUS, None, None)
    return found


def unix_endpoints(sockets: Iterable[UnixSocket]) -> dict[int, Endpoint]:
    """The sockets that `_sock_diag.unix_sockets` found, by inode number."""
    by_inode = {one.inode: one for one in sockets}
    return {
        inode: Endpoint(
            "unix",
            _UNIX_TYPES.get(one.type, str(one.type)),
            _UNIX_DIAG_STATES.get(one.state, str(one.state)),
            _unix_address(one.name),
            _unix_address(by_inode[one.peer].name) if one.peer in by_inode else None,
        )
        for inode, one in by_inode.items()
    }


def _unix_address(name: bytes | None) -> str | None:
    """Write a name of a Unix socket: ``@`` stands for the zero byte of an abstract one, and never for another."""
    if name is None:
        return None
    if name.startswith(b"\0"):
        return "@" + os.fsdecode(name[1:])
    path = os.fsdecode(name.removesuffix(b"\0"))
    return f"./{path}" if path.startswith("@") else path


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
        raise NoSuchProcess(errno.ESRCH, f"no process has the number {pid}{_ptrace.hidden()}") from error
    except PermissionError as error:
        reason = _ptrace.refusal(pid, attach=False)
        raise NotPermitted(error.errno, f"not permitted to look into process {pid}: {reason}") from error
    except OSError as error:
        raise translated(error, f"cannot look into process {pid}") from error


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
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        try:
            text = _text(f"/proc/{pid}/net/{protocol}")
        except OSError:
            continue  # no IPv6 in this kernel, or the process has ended
        yield from inet_sockets(text, protocol).items()
    yield from _unix(pid).items()


def _unix(pid: int) -> dict[int, Endpoint]:
    try:
        # Netlink tells of the network namespace of the process that asks.
        if os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            return unix_endpoints(_sock_diag.unix_sockets())
    except OSError:
        pass  # sock_diag is not built in, or is refused
    try:
        return unix_sockets(_text(f"/proc/{pid}/net/unix"))
    except OSError:
        return {}


def _with_endpoint(descriptor: Descriptor, endpoints: dict[int, Endpoint]) -> Descriptor:
    inode = descriptor.target.removeprefix("socket:[").removesuffix("]")
    endpoint = endpoints.get(int(inode)) if inode.isdecimal() else None
    kind = "listener" if endpoint is not None and endpoint.state == "listening" else "socket"
    return replace(descriptor, kind=kind, endpoint=endpoint)
