"""The PROXY header, with which a proxy says who the client is, before the first byte that the client sent.

Versions 1 (a line of text) and 2 (binary) of haproxy's doc/proxy-protocol.txt, whose sections the comments cite.
Sans-IO: bytes in, a record out; `socket` only formats addresses. The operator must say whether connections begin
with a header: a server that guessed would let any client claim another's address (section 5).
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

Address = tuple[str, int] | str

LENGTH_MAX = 4096
"""Most bytes of a version 2 header after its first 16: addresses take up to 216, the rest is optional."""

_V1_START, _V1_MIN, _V1_MAX = b"PROXY ", 15, 107  # section 2.1
_V1_FAMILIES = {b"TCP4": AF_INET, b"TCP6": AF_INET6}
_LINE_END = re.compile(rb"\r\n?|\n")
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")

_V2_START = b"\r\n\r\n\0\r\nQUIT\n"
_V2 = struct.Struct(">12sBBH")  # signature, version and command, family and transport, length
_LOCAL, _PROXY = 0x20, 0x21
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_SIZES = {_UNSPEC: 0, _INET: 12, _INET6: 36, _UNIX: 216}
_TYPE_SSL, _CLIENT_SSL = 0x20, 0x01


class ProxyError(ValueError):
    """The connection does not begin with a PROXY header: close it, for its client is unknown."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a PROXY header says.

    Attributes:
        length: The header's bytes; the client sent what follows.
        client: The client's address: host and port, or the path of a Unix socket (empty if it has none, with a
            leading NUL if abstract). None if the proxy speaks for itself (a health check) or does not know the
            client: then the connection's own addresses hold.
        tls: True if the client spoke TLS to the proxy (version 2 only).
    """

    length: int
    client: Address | None
    tls: bool


def parse(data: bytes) -> Header | int:
    """Read the header at the start of a connection.

    Args:
        data: All bytes that have arrived so far. They may go beyond the header.

    Returns:
        The header; or, while it is not complete, the least length in bytes that it can have, which is more than
        ``data`` has. A caller that reads up to that length takes no byte of what follows the header.

    Raises:
        ProxyError: This is no header, or a broken one, whatever follows.
    """
    if data.startswith(_V1_START[: len(data)]):
        return _parse_v1(data)
    if data.startswith(_V2_START[: len(data)]):
        return _parse_v2(data)
    raise ProxyError(f"no PROXY header begins with {data[: len(_V2_START)]!r}")


def _parse_v1(data: bytes) -> Header | int:
    end = _LINE_END.search(data, 0, _V1_MAX)
    if end is not None and end.group() == b"\r\n":
        return _read_line(data[: end.start()], end.end())
    if end is not None and (end.group() == b"\n" or end.end() < len(data)):
        raise ProxyError("the PROXY line has a CR or an LF alone")
    least = len(data) + (2 if end is None else 1)  # a CR and an LF, or only the LF, are still to come
    if least > _V1_MAX:
        raise ProxyError(f"the PROXY line is longer than {_V1_MAX} bytes")
    return max(least, _V1_MIN)


def _read_line(line: bytes, length: int) -> Header:
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":  # what follows it "must be ignored"
        return Header(length, None, tls=False)
    if words[1] not in _V1_FAMILIES:
        raise ProxyError(f"the PROXY line is for {words[1]!r}, which is none of TCP4, TCP6 and UNKNOWN")
    if len(words) != 6:
        raise ProxyError(f"the PROXY line has {len(words)} words, not 6")
    family = _V1_FAMILIES[words[1]]
    host, _ = _host(family, words[2]), _host(family, words[3])  # the second of each is the server's: only checked
    port, _ = _port(words[4]), _port(words[5])
    return Header(length, (host, port), tls=False)


def _host(family: int, word: bytes) -> str:
    try:
        # To bytes and back: so the text has the form that getpeername() gives an address.
        return inet_ntop(family, inet_pton(family, word.decode("ascii")))
    except (OSError, ValueError):
        kind = "IPv4" if family == AF_INET else "IPv6"
        raise ProxyError(f"the PROXY line has {word!r} where an {kind} address belongs") from None


def _port(word: bytes) -> int:
    if not _PORT.fullmatch(word) or int(word) > 65535:
        raise ProxyError(f"the PROXY line has {word!r} where a port belongs")
    return int(word)


def _parse_v2(data: bytes) -> Header | int:
    if len(data) < _V2.size:
        return _V2.size
    _, command, kind, length = _V2.unpack_from(data)
    family = _family(command, kind, length)
    total: int = _V2.size + length
    if len(data) < total:
        return total
    if family == _UNSPEC:
        return Header(total, None, tls=False)
    start = _V2.size + _SIZES[family]
    client = _client(family, data[_V2.size : start])
    return Header(total, client, tls=_has_tls(data[start:total]))


def _family(command: int, kind: int, length: int) -> int:
    if command not in {_LOCAL, _PROXY}:
        version, word = divmod(command, 16)
        raise ProxyError(f"the PROXY header is of version {version} with command {word}, not 2 with 0 or 1")
    if length > LENGTH_MAX:
        raise ProxyError(f"the PROXY header announces {length} bytes, where {LENGTH_MAX} is the most")
    if command == _LOCAL:
        return _UNSPEC  # "discard the protocol block including the family"
    family, transport = divmod(kind, 16)
    if family not in _SIZES or transport > 2:
        raise ProxyError(f"the PROXY header has the unknown address family and transport {kind:#04x}")
    if transport == 0:
        return _UNSPEC
    if length < _SIZES[family]:
        raise ProxyError(f"the PROXY header has {length} bytes, where its addresses take {_SIZES[family]}")
    return family


def _client(family: int, addresses: bytes) -> Address:
    """The first of two addresses; the second is the server's."""
    if family == _UNIX:
        return _path(addresses[:108])
    size, socket_family = (4, AF_INET) if family == _INET else (16, AF_INET6)
    (port,) = struct.unpack_from(">H", addresses, 2 * size)  # the ports stand behind both hosts
    return inet_ntop(socket_family, addresses[:size]), port


def _path(padded: bytes) -> str:
    name = padded[:1] + padded[1:].split(b"\0", 1)[0]  # an abstract name begins with NUL
    return os.fsdecode(name.rstrip(b"\0"))


def _has_tls(fields: bytes) -> bool:
    tls = False
    while fields:  # a type of one byte, a length of two, a value (section 2.2)
        end = 3 + int.from_bytes(fields[1:3], "big")
        if end > len(fields):
            raise ProxyError("the PROXY header ends within a type-length-value field")
        kind, value, fields = fields[0], fields[3:end], fields[end:]
        if kind == _TYPE_SSL and value:
            tls = bool(value[0] & _CLIENT_SSL)
    return tls
