"""`Settings` of a dashboard: which servers it watches, where it listens, and who may act."""

from __future__ import annotations

import ipaddress
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from fdpass._supervision.addresses import parse
from fdpass.errors import ConfigError
from fdpass.serve.operator.client import default_path

DEFAULT_BIND = "127.0.0.1:9100"
LEAST_TOKEN = 16
"""The least number of characters of a token: a shorter one can be guessed."""

_NAMED = re.compile(r"([\w.-]+)=(.+)", re.ASCII)
_TOKEN = re.compile("[!-~]*")
_FORM = "HOST:PORT or [::1]:PORT"


@dataclass(frozen=True, slots=True)
class WatchedServer:
    """A server that the dashboard watches.

    Attributes:
        name: What the page and the metrics call it.
        path: Its control socket.
    """

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class AgentCheck:
    """An address at which HAProxy asks for the state of one server.

    Attributes:
        server: The server's name.
        host: Host to listen at.
        port: Port to listen at.
    """

    server: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, checked.

    Attributes:
        host: Host to listen at.
        port: Port to listen at.
        servers: The servers, in the order of the options.
        agent_checks: The addresses for HAProxy.
        capacity: The number of connections at which a server's weight is least; 0 = the server's own limit.
        token: The token of those who may act; empty: no action is allowed.
    """

    host: str
    port: int
    servers: tuple[WatchedServer, ...]
    agent_checks: tuple[AgentCheck, ...] = ()
    capacity: int = 0
    token: str = ""

    @classmethod
    def of(
        cls,
        bind: str,
        controls: Iterable[str] = (),
        agent_checks: Iterable[str] = (),
        *,
        capacity: int = 0,
        token: str = "",
    ) -> Self:
        """Make the settings from the texts of options.

        Raises:
            ConfigError: One of them is malformed.
        """
        host, port = parse(bind, f"--bind {bind!r}", _FORM)
        if not _TOKEN.fullmatch(token):  # a header cannot have other characters, or a client strips them
            raise ConfigError("--token: a token consists of printable ASCII characters without spaces")
        if token and len(token) < LEAST_TOKEN:
            raise ConfigError(f"--token: a token has at least {LEAST_TOKEN} characters: nobody must guess it")
        servers = _servers(list(controls) or [""])
        checks = tuple(_agent_check(text, servers) for text in agent_checks)
        return cls(host, port, servers, checks, capacity, token)

    @property
    def only_local(self) -> bool:
        """Whether only programs of this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def text_of(name: str) -> str:
    """A name that UTF-8 can encode: that of a file may have other bytes, which Python has as surrogates."""
    return name.encode(errors="backslashreplace").decode()


def _servers(controls: list[str]) -> tuple[WatchedServer, ...]:
    """Name each server: as its option says, else by its socket's file; by its path if two files have one name."""
    found = [_NAMED.fullmatch(text) for text in controls]
    paths = [match[2] if match else text or default_path() for match, text in zip(found, controls, strict=True)]
    stems = [match[1] if match else _stem(path) for match, path in zip(found, paths, strict=True)]
    often = Counter(stems)
    names = [
        stem if match or often[stem] == 1 else text_of(path)
        for match, stem, path in zip(found, stems, paths, strict=True)
    ]
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise ConfigError(f"--control: two servers have the name {name!r}: give each its own with NAME=PATH")
    return tuple(WatchedServer(name, path) for name, path in zip(names, paths, strict=True))


def _stem(path: str) -> str:
    return text_of(os.path.basename(path).removesuffix(".sock") or path)


def _agent_check(text: str, servers: tuple[WatchedServer, ...]) -> AgentCheck:
    match = _NAMED.fullmatch(text)
    if match is None and len(servers) > 1:
        raise ConfigError(f"--agent-check {text!r}: with several servers, write NAME=HOST:PORT")
    name, address = (match[1], match[2]) if match else (servers[0].name, text)
    if name not in {server.name for server in servers}:
        raise ConfigError(f"--agent-check {text!r}: no server has the name {name!r}")
    return AgentCheck(name, *parse(address, f"--agent-check {text!r}", f"[NAME=]{_FORM}"))
