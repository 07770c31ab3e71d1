"""TCP addresses at which a program listens: their syntax, their names, and the sockets."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Callable
from typing import Any

from fdpass._errors import translated
from fdpass._sockets import readable
from fdpass.errors import AddressInUse, ConfigError


def parse(text: str, where: str, forms: str) -> tuple[str, int]:
    """Host and port of a TCP address. An empty host is every IPv4 address.

    Args:
        text: The address.
        where: The option that has it: the start of an error message.
        forms: The forms that the option takes, for an error message.

    Raises:
        ConfigError: The address is malformed.
    """
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\[\]:/]*)):(\d{1,5})", text, re.ASCII)
    if match is None or int(match[3]) > 65535:
        raise ConfigError(f"{where}: write {forms}, with a port from 0 to 65535")
    return match[1] or match[2] or "0.0.0.0", int(match[3])  # noqa: S104 - asked for by an empty host


def resolve(host: str, port: int, where: str) -> list[tuple[int, tuple[str, int]]]:
    """Find the addresses of a host, each with its family.

    Raises:
        ConfigError: It has none.
    """
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"{where}: this host has no address ({error.strerror})") from error
    except UnicodeError as error:  # a label of more than 63 characters
        raise ConfigError(f"{where}: this is no name of a host") from error
    return list(dict.fromkeys((int(family), address) for family, _, _, _, address in answers))  # type: ignore[misc]


def listen_tcp(
    family: int,
    address: tuple[str, int],
    backlog: int,
    where: str,
    *,
    only_ipv6: bool,
    prepare: Callable[[socket.socket], None] = lambda _: None,
) -> socket.socket:
    """Make a listening socket, non-blocking, which the caller owns.

    Args:
        family: AF_INET or AF_INET6.
        address: As bind(2) takes it.
        backlog: As of listen(2).
        where: The option and the address, for error messages.
        only_ipv6: Whether a socket for IPv6 refuses IPv4 clients.
        prepare: Sets options of the socket before it is bound.

    Raises:
        AddressInUse: Another socket listens there already.
        CallFailed: bind(2) or listen(2) failed.
    """
    # With its protocol, which SETUP tells the workers: with 0 asyncio would not set TCP_NODELAY there.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # So that a restarted server can bind while connections of the old one are in TIME_WAIT. Linux does not let
        # two listeners share a port by this option.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        prepare(sock)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_ipv6)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        option, _, bind = where.partition(" ")
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                errno.EADDRINUSE,
                f"cannot listen at {bind}: another process listens there already; "
                f"stop it, or choose another {option}",
            ) from error
        raise translated(error, f"cannot listen at {bind}") from error
    return sock


def name_of(sock: socket.socket, address: Any = None) -> str:
    """The address of a socket, or another of its family: ``127.0.0.1:80``, ``[::1]:80``, ``unix:/run/app``."""
    address = sock.getsockname() if address is None else address
    if sock.family == socket.AF_UNIX:
        return f"unix:{readable(address)}"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
