"""`Listening`: the listening sockets of a server, bound here, or inherited from the program that started it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass

from fdpass._activation import Inherited
from fdpass._fd import Fd
from fdpass._sockets import SocketFile, address_of, bound_socket, identity_of, readable, unlink_own
from fdpass._supervision import addresses
from fdpass._supervision.addresses import listen_tcp, name_of, resolve
from fdpass.errors import ConfigError

_UNIX_MODE = 0o666  # every user may connect, as to a port; the rights of the folder can forbid it


def _do_nothing() -> None:
    pass


@dataclass(slots=True)
class Listening:
    """A listening socket, non-blocking, that this object owns.

    Attributes:
        sock: The socket.
        name: Its address as people write it: ``127.0.0.1:8000``, ``[::1]:8000``, ``unix:/run/app.sock``.
        file: The socket file that `refuse_new` and `close` remove; None if fdpass made none.
        adopted: Another process made the socket, and may go on listening with its own descriptor.
        forget: Called before the socket is closed: no other dispatcher shall look for it.
    """

    sock: socket.socket
    name: str
    file: SocketFile | None = None
    adopted: bool = False
    forget: Callable[[], None] = _do_nothing

    def refuse_new(self) -> None:
        """Refuse new clients from now on, if those that wait in the backlog can still be accepted then.

        They can at a Unix socket that was shut down. A TCP socket that is shut down resets them, so it stays open.
        """
        if not self.adopted and self.sock.family == socket.AF_UNIX:
            unlink_own(self.sock, self.file)
            with contextlib.suppress(OSError):  # a dead dispatcher has done so
                self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop listening, and remove the socket file that fdpass made. A second call does nothing."""
        self.forget()
        unlink_own(self.sock, self.file)
        if not self.adopted:
            with contextlib.suppress(OSError):  # it does not listen any more
                self.sock.shutdown(socket.SHUT_RDWR)  # workers may have duplicates, which would go on listening
        self.sock.close()


def listen_at(binds: Iterable[str], backlog: int, activated: Iterable[Inherited] = ()) -> list[Listening]:
    """Listen at all addresses and on all inherited sockets.

    Args:
        binds: Addresses, as of `Config.bind`.
        backlog: As of listen(2).
        activated: Descriptors from socket activation. Given: taken over, or closed on failure.

    Raises:
        ConfigError: An address is malformed, or an inherited descriptor is no listening stream socket.
        AddressInUse: Another socket listens there already.
        CallFailed: bind(2) or listen(2) failed (`NotPermitted`, ...).
    """
    listeners: list[Listening] = []
    remaining = list(activated)
    try:
        while remaining:
            listeners.append(_adopt(remaining.pop(0).fd, "socket activation"))
        wanted = list(binds)
        for bind in wanted:
            listeners.extend(_listen(bind, backlog, _ipv4_ports(wanted, listeners)))
    except BaseException:
        for listener in listeners:
            listener.close()
        for inherited in remaining:
            inherited.fd.close()
        raise
    return listeners


def _ipv4_ports(binds: Iterable[str], listeners: Iterable[Listening]) -> set[int]:
    """The ports at which this server has or wants a listener for IPv4; a host name may have an IPv4 address."""
    ports = {each.sock.getsockname()[1] for each in listeners if each.sock.family == socket.AF_INET}
    for bind in binds:
        if not bind.startswith(("fd://", "unix:")):
            host, port = parse(bind)
            if ":" not in host:
                ports.add(port)
    return ports


def _listen(bind: str, backlog: int, ipv4_ports: Container[int]) -> list[Listening]:
    if bind.startswith("fd://"):
        return [_adopt(Fd(_number(bind)), f"--bind {bind}")]
    if bind.startswith("unix:"):
        sock = bound_socket(bind[5:], "stream", _UNIX_MODE, backlog)
        sock.setblocking(False)
        return [Listening(sock, f"unix:{readable(sock.getsockname())}", identity_of(sock.getsockname()))]
    host, port = parse(bind)
    listeners: list[Listening] = []
    try:
        for family, address in resolve(host, port, f"--bind {bind!r}"):
            # [::] is for IPv4 clients too, unless another listener of this server is there for them.
            only_ipv6 = address[0] != "::" or (port != 0 and port in ipv4_ports)
            listeners.append(_listen_tcp(family, address, backlog, bind, only_ipv6=only_ipv6))
            if port == 0:
                break  # another family would get another port
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _number(bind: str) -> int:
    """The descriptor of ``fd://N``. Raises ConfigError."""
    if not re.fullmatch(r"\d{1,9}", bind[5:], re.ASCII):
        raise ConfigError(f"--bind {bind!r}: write fd://N, with the number of an open descriptor")
    return int(bind[5:])


def check_address(bind: str) -> None:
    """Check the syntax of an address.

    Raises:
        ConfigError: The address is malformed.
        InvalidMessage: The path is too long for the address of a Unix socket, or is empty.
    """
    if bind.startswith("fd://"):
        _number(bind)
    elif bind.startswith("unix:"):
        address_of(bind[5:])
    else:
        parse(bind)


def parse(bind: str) -> tuple[str, int]:
    """Host and port of a TCP address, as `addresses.parse`."""
    return addresses.parse(bind, f"--bind {bind!r}", "HOST:PORT, [::1]:PORT, unix:PATH or fd://N")


def _listen_tcp(family: int, address: tuple[str, int], backlog: int, bind: str, *, only_ipv6: bool) -> Listening:
    sock = listen_tcp(
        family, address, backlog, f"--bind {bind}", only_ipv6=only_ipv6, prepare=_set_for_connections
    )
    return Listening(sock, name_of(sock))


def _adopt(fd: Fd, source: str) -> Listening:
    try:
        kind = fd.kind
    except OSError as error:
        with contextlib.suppress(OSError):
            fd.take()  # the number is not open: there is nothing to close
        raise ConfigError(f"{source}: this descriptor is not open") from error
    if kind != "listener":
        fd.close()
        raise ConfigError(f"{source}: it is of kind {kind}, not a socket that listens")
    sock = fd.socket()
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise ConfigError(f"{source}: it listens, but not for streams")
    os.set_inheritable(sock.fileno(), False)
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        _set_for_connections(sock)
    return Listening(sock, name_of(sock), adopted=True)


def _set_for_connections(sock: socket.socket) -> None:
    """Set the options of a TCP listener that each connection inherits which comes from now on.

    Without TCP_NODELAY the second of two small writes waits until the client has acknowledged the first, for up to
    40 ms: see tcp(7). Without SO_OOBINLINE the kernel counts urgent bytes (RFC 6093) as received, but no read
    returns them, and custody compares the kernel's count with what was read.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
