"""The listening sockets of a server: bound, or adopted from whoever started us."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from fdpass._activation import Inherited
from fdpass._errors import translated
from fdpass._fd import Fd
from fdpass._sockets import SocketFile, bound_socket, identity_of, readable, unlink_own
from fdpass.errors import AddressInUse, ConfigError

_UNIX_MODE = 0o666  # whoever can reach the folder may connect, as to a port; close the folder to close the door


@dataclass(slots=True)
class Listening:
    """A listening socket, non-blocking, that this object owns.

    Attributes:
        sock: The socket.
        name: Its address as people write it: ``127.0.0.1:8000``, ``[::1]:8000``, ``unix:/run/app.sock``.
        file: The socket file that we made and shall remove, if any.
    """

    sock: socket.socket
    name: str
    file: SocketFile | None = None

    def close(self) -> None:
        """Stop listening, and remove the file that we made. Twice does nothing."""
        unlink_own(self.sock, self.file)
        self.sock.close()


def listen_at(binds: Iterable[str], backlog: int, activated: Iterable[Inherited] = ()) -> list[Listening]:
    """Listen everywhere.

    Args:
        binds: Addresses, as of `Config.bind`.
        backlog: As of listen(2).
        activated: What socket activation gave. Given: taken over, or closed on failure.

    Raises:
        ConfigError: An address is none, or what was given is no listening stream socket.
        AddressInUse: Somebody listens there already.
        CallFailed: bind(2) or listen(2) failed (`NotPermitted`, ...).
    """
    found: list[Listening] = []
    given = list(activated)
    try:
        while given:
            found.append(_adopted(given.pop(0).fd, "socket activation"))
        for bind in binds:
            found.extend(_bound(bind, backlog))
    except BaseException:
        for listening in found:
            listening.close()
        for inherited in given:
            inherited.fd.close()
        raise
    return found


def _bound(bind: str, backlog: int) -> list[Listening]:
    if bind.startswith("fd://"):
        if not re.fullmatch(r"\d{1,9}", bind[5:], re.ASCII):
            raise ConfigError(f"--bind {bind!r}: write fd://N, with the number of an open descriptor")
        return [_adopted(Fd(int(bind[5:])), f"--bind {bind}")]
    if bind.startswith("unix:"):
        sock = bound_socket(bind[5:], "stream", _UNIX_MODE, backlog)
        sock.setblocking(False)
        return [Listening(sock, f"unix:{readable(sock.getsockname())}", identity_of(sock.getsockname()))]
    host, port = parse(bind)
    found: list[Listening] = []
    try:
        for family, address in _resolved(host, port, bind):
            found.append(_tcp(family, address, backlog, bind))
            if port == 0:
                break  # another family would get another port
    except BaseException:
        for listening in found:
            listening.close()
        raise
    return found


def check_address(bind: str) -> None:
    """Whether it is written as an address is.

    Raises:
        ConfigError: It is not.
    """
    if not bind.startswith(("fd://", "unix:")):
        parse(bind)


def parse(bind: str) -> tuple[str, int]:
    """Host and port of an address. An empty host is every IPv4 address.

    Raises:
        ConfigError: It is none.
    """
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\[\]:/]*)):(\d{1,5})", bind, re.ASCII)
    if match is None or int(match[3]) > 65535:
        raise ConfigError(
            f"--bind {bind!r}: write HOST:PORT, [::1]:PORT, unix:PATH or fd://N, with a port from 0 to 65535"
        )
    return match[1] or match[2] or "0.0.0.0", int(match[3])  # noqa: S104 - asked for by an empty host


def _resolved(host: str, port: int, bind: str) -> list[tuple[int, tuple[str, int]]]:
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"--bind {bind!r}: this host has no address ({error.strerror})") from error
    return list(dict.fromkeys((int(family), address) for family, _, _, _, address in answers))  # type: ignore[misc]


def _tcp(family: int, address: tuple[str, int], backlog: int, bind: str) -> Listening:
    # With its protocol: what is told of it to the workers makes asyncio set TCP_NODELAY there.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # A restarted server need not wait for the old one's connections in TIME_WAIT. Linux does not let two
        # listeners share a port by this.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        take_urgent(sock)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                errno.EADDRINUSE,
                f"cannot listen at {bind}: somebody listens there already; stop it, or choose another --bind",
            ) from error
        raise translated(error, f"cannot listen at {bind}") from error
    return Listening(sock, name_of(sock))


def _adopted(fd: Fd, whence: str) -> Listening:
    try:
        kind = fd.kind
    except OSError as error:
        with contextlib.suppress(OSError):
            fd.take()  # it is not open: nothing to close
        raise ConfigError(f"{whence}: this descriptor is not open") from error
    if kind != "listener":
        fd.close()
        raise ConfigError(f"{whence}: it is a {kind}, not a socket that listens")
    sock = fd.socket()
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise ConfigError(f"{whence}: it listens, but not for streams")
    os.set_inheritable(sock.fileno(), False)
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        take_urgent(sock)
    return Listening(sock, name_of(sock))


def take_urgent(sock: socket.socket) -> None:
    """Let urgent bytes stand among the others on each connection that comes from now on (RFC 6093).

    Else the kernel would count them as received, and no read would return them: custody compares the two.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)


def name_of(sock: socket.socket) -> str:
    """The address of a socket as people write it."""
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{readable(address)}"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
