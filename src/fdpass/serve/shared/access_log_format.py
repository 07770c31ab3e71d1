r"""`compiled`: the format of an access log's lines, with gunicorn's atoms: ``%(h)s %(t)s "%(r)s" %(s)s``.

Text from the client is printed as ASCII; quotes, backslashes and all bytes but printable ones as ``\xHH``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fdpass.errors import ConfigError

_ATOM = re.compile(r"%(?:%|\(([^)]*)\)s)")
_UNSAFE = re.compile(rb"[^ !#-\[\]-~]")
_OF_HEADERS = re.compile(r"\{([^{}]+)\}([ioe])").fullmatch


class Facts(NamedTuple):
    """What is known of a request at its end.

    Attributes:
        scope: The request's ASGI scope.
        status: Of the response, perhaps with a colour.
        size: Bytes of the response's body.
        seconds: Duration; None if it is not known.
        headers: Of the response, pairs of bytes; empty if no atom needs them.
        date: As the Common Log Format has it.
        pid: The worker's process number.
        limit: Most bytes of a text from the client.
    """

    scope: Mapping[str, Any]
    status: str
    size: int
    seconds: float | None
    headers: Any
    date: str
    pid: int
    limit: int


_Write = Callable[[Facts], str]


def compiled(text: str) -> Callable[[Facts], str]:
    """Return what writes a line, with its line end.

    Args:
        text: The format: ``%(ATOM)s`` stands for a fact, ``%%`` for a per cent sign.

    Raises:
        ConfigError: There is no such atom, or a per cent sign stands alone.
    """
    parts: list[_Write | str] = []
    end = 0
    for match in _ATOM.finditer(text):
        parts += [text[end : match.start()], "%" if match[1] is None else _writer(match[1])]
        end = match.end()
    parts.append(text[end:])
    if any(isinstance(part, str) and "%" in part and part != "%" for part in parts):
        raise ConfigError(f"--access-log-format {text!r}: write % as %%, and an atom as %(NAME)s")
    if "\n" in text or "\r" in text:
        raise ConfigError("--access-log-format takes one line")

    def write(facts: Facts) -> str:
        return "".join([part if isinstance(part, str) else part(facts) for part in parts]) + "\n"

    return write


def needs_response(text: str) -> bool:
    """Whether a format has an atom for a header of the response."""
    return re.search(r"%\(\{[^{}]+\}o\)s", text) is not None


def _writer(atom: str) -> _Write:
    if atom in _ATOMS:
        return _ATOMS[atom]
    match = _OF_HEADERS(atom)
    if match is None:
        known = ", ".join([*_ATOMS, "{HEADER}i", "{HEADER}o", "{VARIABLE}e"])
        raise ConfigError(f"--access-log-format: there is no atom {atom!r}; there are {known}")
    name, kind = match[1].lower().encode("utf-8", "surrogateescape"), match[2]
    if kind == "i":
        return lambda facts: _header(facts.scope.get("headers", ()), name, facts.limit)
    if kind == "o":
        return lambda facts: _header(facts.headers, name, facts.limit)
    value = _safe(os.environ.get(match[1], "-"), 4096)
    return lambda _: value


def _header(headers: Any, name: bytes, limit: int) -> str:
    values = [bytes(value) for found, value in headers if bytes(found).lower() == name]
    return _safe(b", ".join(values), limit) if values else "-"


def _safe(value: str | bytes, limit: int) -> str:
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return _UNSAFE.sub(lambda match: b"\\x%02X" % match[0][0], raw[:limit]).decode("ascii")


def _user(facts: Facts) -> str:
    """The user's name of Basic authentication."""
    from base64 import b64decode  # noqa: PLC0415 - few formats have this atom

    for name, value in facts.scope.get("headers", ()):
        kind, _, told = value.partition(b" ")
        if name == b"authorization" and kind.lower() == b"basic":
            try:
                return _safe(b64decode(told).partition(b":")[0], facts.limit) or "-"
            except ValueError:
                break
    return "-"


def _client(facts: Facts) -> str:
    client = facts.scope.get("client")
    return _safe(client[0], facts.limit) if client else "-"


def _method(facts: Facts) -> str:
    return _safe(facts.scope.get("method", "GET"), facts.limit)


def _path(facts: Facts) -> str:
    return _safe(facts.scope.get("raw_path") or facts.scope["path"], facts.limit)


def _query(facts: Facts) -> str:
    return _safe(facts.scope.get("query_string", b""), facts.limit)


def _protocol(facts: Facts) -> str:
    return "HTTP/" + _safe(facts.scope.get("http_version", "1.1"), facts.limit)


def _request(facts: Facts) -> str:
    query = _query(facts)
    return f"{_method(facts)} {_path(facts)}{'?' + query if query else ''} {_protocol(facts)}"


def _duration(shown: Callable[[float], str]) -> _Write:
    return lambda facts: "-" if facts.seconds is None else shown(facts.seconds)


_ATOMS: dict[str, _Write] = {
    "h": _client,
    "l": lambda _: "-",
    "u": _user,
    "t": lambda facts: f"[{facts.date}]",
    "r": _request,
    "m": _method,
    "U": _path,
    "q": _query,
    "H": _protocol,
    "s": lambda facts: facts.status,
    "B": lambda facts: str(facts.size),
    "b": lambda facts: str(facts.size or "-"),
    "f": lambda facts: _header(facts.scope.get("headers", ()), b"referer", facts.limit),
    "a": lambda facts: _header(facts.scope.get("headers", ()), b"user-agent", facts.limit),
    "T": _duration(lambda seconds: str(int(seconds))),
    "M": _duration(lambda seconds: str(int(seconds * 1000))),
    "D": _duration(lambda seconds: str(int(seconds * 1_000_000))),
    "L": _duration("{:.6f}".format),
    "p": lambda facts: f"<{facts.pid}>",
}
