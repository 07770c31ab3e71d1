"""`HeldListeners`: the listening sockets of the program, which stay open while it is restarted."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from fdpass._activation import Inherited
from fdpass._fd import Fd
from fdpass._keep.notification import is_valid_name
from fdpass._sockets import SocketFile, bound_socket, identity_of, unlink_own
from fdpass._supervision.addresses import listen_tcp, name_of, parse, resolve
from fdpass.errors import ConfigError

_DEFAULT_NAME = "listener"
_UNIX_MODE = 0o666  # every user may connect, as to a port; the rights of the folder can forbid it
_BACKLOG = 4096  # of systemd.socket(5); the kernel bounds it by net.core.somaxconn
_FORMS = "[NAME=]HOST:PORT, [NAME=][::1]:PORT or [NAME=]unix:PATH"


@dataclass(frozen=True, slots=True)
class Held:
    """One descriptor that the program gets at each start.

    Attributes:
        name: Its name in LISTEN_FDNAMES.
        address: Its address as people write it; "" if it is no socket.
        fd: The descriptor. Owned.
        file: The socket file that `HeldListeners.close` removes; None if this process made none.
    """

    name: str
    address: str
    fd: Fd
    file: SocketFile | None = None


class HeldListeners:
    """Owns the listeners.

    Args:
        addresses: ``[NAME=]ADDRESS``, as `Settings.listen`.
        inherited: What this process got by socket activation, for the program. Taken over.

    Raises:
        ConfigError: An address is malformed.
        AddressInUse: Another socket listens there already.
        CallFailed: bind(2) or listen(2) failed.
    """

    def __init__(self, addresses: Iterable[str], inherited: Iterable[Inherited] = ()) -> None:
        self.all: list[Held] = [Held(each.name, address_of(each.fd), each.fd) for each in inherited]
        try:
            for address in addresses:
                self._listen(address)
        except BaseException:
            self.close()
            raise

    def _listen(self, text: str) -> None:
        where = f"--listen {text!r}"
        name, equals, address = text.partition("=")
        if not equals or ":" in name:  # the path of a Unix socket can contain "="
            name, address = _DEFAULT_NAME, text
        if not is_valid_name(name):
            raise ConfigError(f"{where}: a name has at most 255 characters, which are printable ASCII without ':'")
        if address.startswith("unix:"):
            sock = bound_socket(address[5:], "stream", _UNIX_MODE, _BACKLOG)
            self._add(name, sock, identity_of(sock.getsockname()))
            return
        host, port = parse(address, where, _FORMS)
        for family, found in resolve(host, port, where):
            # Without IPV6_V6ONLY, [::] is for IPv4 clients too.
            only_ipv6 = found[0] != "::"
            self._add(name, listen_tcp(family, found, _BACKLOG, f"--listen {address}", only_ipv6=only_ipv6))
            if port == 0:
                break  # another family would get another port

    def _add(self, name: str, sock: socket.socket, file: SocketFile | None = None) -> None:
        self.all.append(Held(name, name_of(sock), Fd(sock.detach()), file))

    def set_blocking(self) -> None:
        """Clear O_NONBLOCK, which the program before may have set: systemd gives listeners that block."""
        for held in self.all:
            with contextlib.suppress(OSError):
                os.set_blocking(held.fd.fileno(), True)

    def close(self) -> None:
        """Close the listeners, and remove their socket files. A second call does nothing."""
        for held in self.all:
            if held.file is not None and not held.fd.closed:
                with held.fd.socket() as sock:
                    unlink_own(sock, held.file)
            held.fd.close()


def address_of(fd: Fd) -> str:
    """The address of a socket, and that of its peer; "" for another kind of file."""
    try:
        with fd.dup() as duplicate, duplicate.socket() as sock:
            if sock.family not in {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6}:
                return ""
            try:
                return f"{name_of(sock)} -> {name_of(sock, sock.getpeername())}"
            except OSError:  # it has no peer
                return name_of(sock)
    except OSError:  # no socket, or no free descriptor
        return ""
