"""What an event stream needs beside its events, to go on in another worker: request, response, last id. Pure."""

from __future__ import annotations

import re

_CONTENT_TYPE = re.compile(rb"\r\ncontent-type:[ \t]*(text/event-stream[ \t]*(?:;[^\r]*)?)\r\n", re.IGNORECASE)
_PREVENTS = re.compile(rb"\r\ncontent-(?:encoding|length):", re.IGNORECASE)
_LAST_ID = re.compile(rb"^last-event-id:[^\n]*\n", re.IGNORECASE | re.MULTILINE)


def agreed_by(data: bytes) -> bytes:
    """What the head of a response says that another worker's must say, too; b"" if no other worker can go on.

    That is the content type of an event stream. The status is 200, and there is no Content-Length: so the body has
    chunks. A content encoding would have a state that only the application has.

    Args:
        data: The response, with its whole head.
    """
    head = data[: data.find(b"\r\n\r\n") + 2]
    found = _CONTENT_TYPE.search(head)
    if found is None or not head.startswith(b"HTTP/1.1 200 ") or _PREVENTS.search(head):
        return b""
    return found[1].lower()


def has_events(data: bytes) -> bool:
    """Whether a response is an event stream.

    Args:
        data: The response, with its whole head.
    """
    return _CONTENT_TYPE.search(data, 0, data.find(b"\r\n\r\n") + 2) is not None


def with_last_id(request: bytes, last_id: bytes) -> bytes:
    """A request as a client repeats it behind the event with this id; as it came, if no event had an id.

    Args:
        request: The head, with the empty line behind it.
        last_id: Of the last event that went out.
    """
    if not last_id:
        return request
    return b"%blast-event-id: %b\r\n\r\n" % (_LAST_ID.sub(b"", request)[:-2], last_id)


def behind_head(data: bytes) -> bytes:
    """What comes behind the first empty line."""
    return data.partition(b"\r\n\r\n")[2]


def chunk_of(data: bytes) -> bytes:
    """What is in a chunk (RFC 9112, 7.1); b"" if there is none."""
    return data[data.find(b"\r\n") + 2 : -2]
