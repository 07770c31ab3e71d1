"""`Forwarding`: client, scheme and host of a request, from the headers that trusted proxies have set. Pure.

Each proxy adds the address of its own peer at the end of X-Forwarded-For, or an element to Forwarded (RFC 7239).
So these headers are read from the end: an entry is believed if the peer of the connection is a trusted proxy, and
all entries behind it are addresses of trusted proxies. The first address that is not a trusted proxy's is the
client. The client may have written everything in front of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from fdpass.serve.shared.proxies import Proxies
from fdpass.serve.worker.http.request import Headers

_HOPS_MAX = 64  # entries that are looked at
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z_.~%-]{1,255})(?::[0-9]{1,5})?").fullmatch
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - RFC 9110, 5.6.2
_PAIR = rf'[ \t]*{_TOKEN}=(?:{_TOKEN}|"(?:[^"\\]|\\.)*")[ \t]*'
_ELEMENT = re.compile(rf"(?:{_PAIR})?(?:;(?:{_PAIR})?)*").fullmatch
_PAIRS = re.compile(rf'({_TOKEN})=(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")').finditer
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII).fullmatch
_COMMAS_MAX = 16  # in one element of Forwarded, in which quotes may hold some
_TEXT_MAX = 8192  # characters of Forwarded and of the other headers that are looked at

Client = tuple[str, int]


class Forwarded(NamedTuple):
    """What proxies say about a request.

    Attributes:
        client: Its client; None: nothing.
        scheme: http or https; empty: nothing.
        host: What the client asked for as Host; empty: nothing.
    """

    client: Client | None
    scheme: str
    host: bytes

    def apply(self, scope: dict[str, Any]) -> None:
        """Change the scope of a request, or of a WebSocket. The headers are replaced, not changed."""
        if self.client is not None:
            scope["client"] = self.client
        if self.scheme:
            is_websocket = scope["type"] == "websocket"
            scope["scheme"] = self.scheme.replace("http", "ws") if is_websocket else self.scheme
        if self.host:
            rest = [(name, value) for name, value in scope["headers"] if name.lower() != b"host"]
            scope["headers"] = [(b"host", self.host), *rest]


class Forwarding:
    """Reads the headers by which proxies tell about the client.

    Args:
        proxies: The proxies that are trusted.
        mode: As of ``--forwarded-headers``.
    """

    def __init__(self, proxies: Proxies, mode: str) -> None:
        self.proxies = proxies
        self._takes_host = mode != "auto"
        names = {b"x-forwarded-for", b"x-forwarded-proto"} if mode != "forwarded" else set()
        if mode == "x-forwarded":
            names.add(b"x-forwarded-host")
        else:
            names.add(b"forwarded")
        self._names = frozenset(names)

    def trusts(self, client: Any, *, is_unix: bool) -> bool:
        """Whether the headers of a connection are believed.

        Args:
            client: The address of its peer, or the one in its PROXY header; "" for a Unix socket, None if unknown.
            is_unix: It is a Unix socket.
        """
        if isinstance(client, tuple):
            return self.proxies.look_up(client[0])[1]
        return client is not None and is_unix and self.proxies.unix

    def read(self, headers: Headers) -> Forwarded | None:
        """Return what the headers of a request from a trusted peer say; None if they say nothing. Never raises.

        Args:
            headers: Of the request. Lent.
        """
        found: dict[bytes, str] = {}
        for name, value in headers:
            name = name.lower()  # noqa: PLW2901 - uvicorn's WebSockets leave it as it came
            if name in self._names:
                text = value.decode("latin-1")
                found[name] = f"{found[name]},{text}" if name in found else text
        if not found:
            return None
        if found.keys() == {b"forwarded"}:
            return self._by_elements(found[b"forwarded"])
        return self._by_lists(found)

    def _by_lists(self, found: dict[bytes, str]) -> Forwarded:
        """Read X-Forwarded-For, and the entries of the other headers that belong to the same proxy."""
        hops = _entries(found.get(b"x-forwarded-for", ""))
        index, client = self._client(hops)
        scheme = _entry(found.get(b"x-forwarded-proto", ""), index, len(hops))
        host = _entry(found.get(b"x-forwarded-host", ""), index, len(hops))
        return Forwarded(client, _SCHEMES.get(scheme.lower(), ""), _host(host))

    def _by_elements(self, text: str) -> Forwarded | None:
        elements = _elements(text)
        index, client = self._client([element.get("for", "") for element in elements])
        if index is None:
            return None
        told = elements[index]
        host = _host(told.get("host", "")) if self._takes_host else b""
        return Forwarded(client, _SCHEMES.get(told.get("proto", "").lower(), ""), host)

    def _client(self, hops: Sequence[str]) -> tuple[int | None, Client | None]:
        """Return the index of the entry that a trusted proxy wrote about the client, and the client's address.

        If an entry is no address, the client is the trusted proxy that wrote it; None if that is the peer itself.
        """
        index = client = None
        if self.proxies.all:
            hops = hops[:1]
        for index in range(len(hops) - 1, max(-1, len(hops) - 1 - _HOPS_MAX), -1):
            address, is_trusted = self._address(hops[index])
            if address is None:
                return index, client
            client = address
            if not is_trusted:
                break
        return index, client

    def _address(self, hop: str) -> tuple[Client | None, bool]:
        """An address with or without a port, and whether it is that of a trusted proxy; None: it is no address."""
        host, port = hop, ""
        if hop.startswith("["):
            host, bracket, port = hop[1:].partition("]")
            if not bracket or (port and not port.startswith(":")):
                return None, False
            port = port[1:]
        elif hop.count(":") == 1:
            host, _, port = hop.partition(":")
        address, is_trusted = self.proxies.look_up(host)
        if not address or "%" in host:
            return None, False
        number = int(port) if _PORT(port) else 0
        return (address, number if number < 65536 else 0), is_trusted


def _entries(text: str) -> list[str]:
    """The entries of a list, of a long one only the last ones."""
    entries = text.split(",") if len(text) < _TEXT_MAX else text[-_TEXT_MAX:].split(",")[1:]
    return [entry for entry in map(str.strip, entries) if entry]


def _entry(text: str, index: int | None, count: int) -> str:
    """The entry with this index, if there are ``count`` entries; else the last one, which the peer wrote."""
    entries = _entries(text)
    if not entries:
        return ""
    return entries[index] if index is not None and len(entries) == count else entries[-1]


def _elements(text: str) -> list[dict[str, str]]:
    """The elements of Forwarded. They are read from the end; an empty one stands for all that cannot be read.

    So a quote that a client has left open does not hide what a proxy has added behind it.
    """
    text = text[-_TEXT_MAX:]
    found: list[dict[str, str]] = []
    start = end = len(text)
    commas = 0
    while end >= 0 and len(found) <= _HOPS_MAX:
        start = text.rfind(",", 0, start)
        if _ELEMENT(text, start + 1, end):
            if text[start + 1 : end].strip():
                found.append(_parameters(text[start + 1 : end]))
            end, commas = start, 0
        elif start < 0 or commas == _COMMAS_MAX:
            found.append({})
            break
        else:
            commas += 1
    return found[::-1]


def _parameters(element: str) -> dict[str, str]:
    """The parameters of an element by their names; empty if a name is repeated."""
    pairs = [(match[1].lower(), match[2] or re.sub(r"\\(.)", r"\1", match[3] or "")) for match in _PAIRS(element)]
    found = dict(pairs)
    return found if len(found) == len(pairs) else {}


def _host(text: str) -> bytes:
    return text.encode() if _HOST(text) else b""
