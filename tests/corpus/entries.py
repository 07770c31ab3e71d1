r"""The corpus: requests as they come over the wire, good and broken, in the files beside this one.

A file is text. Lines that begin with ``#`` say what it is about. An entry is a paragraph: its first line says what
the request is, the others are its bytes. Line ends of the file are none of the request: only what is escaped is.

=============  ==========================================
``\r \n \t``   CR, LF, tab
``\0``         NUL
``\xHH``       the byte with this number
``\\``         a backslash
``\{N:text}``  text, N times; it may be escaped
=============  ==========================================
"""

import re
from dataclasses import dataclass
from pathlib import Path

FILES = sorted(Path(__file__).parent.glob("*.txt"))
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
IDLE = 6.0  # s that a client says nothing: more than the 5 of keep-alive
_LONG = 600  # bytes; a longer entry is cut everywhere only near its ends and near what is a limit somewhere
_NEAR = 120
_LIMITS = [4096, 16 * 1024, 60 * 1024, 64 * 1024]
_ESCAPE = re.compile(r"\\(?:\{(\d+):([^}]*)\}|x([0-9a-f]{2})|([rnt0\\]))|\\")
_PLAIN = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}


@dataclass(frozen=True)
class Entry:
    """One of them.

    Attributes:
        name: What it is.
        data: Its bytes.
    """

    name: str
    data: bytes


def read(path):
    """The entries of a file.

    Raises:
        ValueError: It is not in the format.
    """
    found = []
    for paragraph in path.read_text(encoding="ascii").split("\n\n"):
        lines = [line for line in paragraph.strip("\n").split("\n") if not line.startswith("#")]
        if not lines:
            continue
        name, *data = lines
        if not data or any(line.endswith(" ") for line in lines):
            raise ValueError(f"{path.name}: no bytes, or a space at the end of a line: {name!r}")
        found.append(Entry(f"{path.stem}: {name}", unescaped("".join(data))))
    names = [each.name for each in found]
    if len(set(names)) != len(names):
        raise ValueError(f"{path.name}: two entries have one name: {sorted(names)}")
    return found


def unescaped(text):
    """The bytes that an escaped text stands for.

    Raises:
        ValueError: A backslash is followed by something else than the docstring of this file has.
    """
    return _ESCAPE.sub(_replaced, text).encode("latin-1")


def _replaced(match):
    count, repeated, number, plain = match.groups()
    if count:
        return unescaped(repeated).decode("latin-1") * int(count)
    if number:
        return chr(int(number, 16))
    if plain:
        return _PLAIN[plain]
    raise ValueError(f"an unknown escape: {match.string[match.start() : match.start() + 20]!r}")


def both_ends(pieces):
    """A connection that is kept is used on, or ended by its client."""
    return [*pieces, LAST], pieces


def two(entry, cut):
    """Its pieces."""
    return [entry.data[:cut], entry.data[cut:]]


def cuts(entry):
    """Where to cut it: everywhere, if it is not long."""
    size = len(entry.data)
    if size <= _LONG:
        return range(1, size)
    near = {near + by for near in (0, size, *_LIMITS) for by in range(-_NEAR, _NEAR)}
    return sorted(cut for cut in {*near, *range(0, size, 997)} if 0 < cut < size)
