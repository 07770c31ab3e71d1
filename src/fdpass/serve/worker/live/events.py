"""Where an event ends in an event stream, and the id of the last event (HTML standard, 9.2.6). Sans-IO."""

from __future__ import annotations

import re

_MARK = b"\xef\xbb\xbf"  # a byte order mark in front of a stream, which is no part of the first line
_LF, _CR, _COLON = b"\n\r:"
_OTHER = rb"(?:(?:data|event|retry):[^\r\n]*\r?\n)*"
_USUAL_EVENT = re.compile(rb"%bid: ?+([^\r\n\0]+)\r?\n%b\r?\n" % (_OTHER, _OTHER)).fullmatch
_KEPT = 5  # bytes of an unfinished line that are kept: "data:" is the longest name that matters


class Events:
    """What an application sends of an event stream.

    Args:
        last_id: The id of the last event that another worker has sent.

    Attributes:
        last_id: The id of the last event that has ended; b"" if the client has none.
        is_resumable: Another worker can go on here: no event has begun and not ended (a comment is no event), and
            the last id says which event comes next, or none was sent.
    """

    __slots__ = (
        "_after_cr", "_at_start", "_begun", "_has_data", "_id", "_is_clear", "_line", "_marked", "_unnamed",
        "is_resumable", "last_id",
    )  # fmt: skip

    def __init__(self, last_id: bytes = b"") -> None:
        self.last_id = last_id
        self.is_resumable = True
        self._at_start = True
        self._is_clear = False  # the next byte begins a line, and no event has begun
        self._marked = False  # the stream began with a mark, which a client would not skip a second time
        self._line = b""  # the start of a line that has not ended
        self._after_cr = False  # LF ends no other line if it comes next
        self._begun = False  # an event has begun, and has not ended
        self._id: bytes | None = None  # of that event
        self._has_data = False  # so has that event
        self._unnamed = False  # the last event has no id, nor have the events before it

    def feed(self, data: bytes) -> None:
        """Take in what is sent next."""
        usual = _USUAL_EVENT(data) if self._is_clear else None
        if usual is not None:
            self.last_id = usual[1]
            self._unnamed = False
            self.is_resumable = not self._marked
        else:
            self._feed(data)
            self._is_clear = not (self._line or self._begun or self._after_cr or self._at_start)

    def _feed(self, data: bytes) -> None:
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if self._line:
            data = self._line + data
        if self._at_start:
            data = self._without_mark(data)
        if data:
            lines = data.splitlines()  # bytes have no other ends of lines than LF, CR and CRLF
            last, line = data[-1], b""
            if last == _CR:
                self._after_cr = True
            elif last != _LF:
                line = lines.pop()
            for whole in lines:
                self._take(whole)
            self._line = line if line.startswith(b"id:") else line[:_KEPT]
        self.is_resumable = not (self._line or self._begun or self._unnamed or self._marked)

    @property
    def is_unnamed(self) -> bool:
        """The events have no ids: no other worker will be able to go on."""
        return self._unnamed or self._marked

    def _without_mark(self, data: bytes) -> bytes:
        if len(data) < len(_MARK) and _MARK.startswith(data):
            self._line = data
            return b""
        self._at_start = False
        self._line = b""
        self._marked = data.startswith(_MARK)
        return data.removeprefix(_MARK)

    def _take(self, line: bytes) -> None:
        if not line:
            if self._begun:
                self._end_event()
        elif line[0] != _COLON:
            self._begun = True
            name, _, value = line.partition(b":")
            if name == b"data":
                self._has_data = True
            elif name == b"id" and b"\0" not in value:
                self._id = value.removeprefix(b" ")

    def _end_event(self) -> None:
        if self._id is not None:
            self.last_id = self._id
        # A client that was told an empty id asks for the stream without an id, and not as it asked at first.
        self._unnamed = not self.last_id and (self._unnamed or self._has_data or self._id is not None)
        self._begun = self._has_data = False
        self._id = None
