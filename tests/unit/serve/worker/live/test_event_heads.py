"""What another worker needs of an event stream's request and response."""

import pytest

from fdpass.serve.worker.live.event_heads import agreed_by, behind_head, chunk_of, with_last_id

OK = b"HTTP/1.1 200 OK\r\n"
KIND = b"content-type: text/event-stream\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
GET = b"GET /events HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("head", "agreed"),
    [
        (OK + KIND + CHUNKED, b"text/event-stream"),
        (
            OK + b"date: x\r\nContent-Type:Text/Event-Stream ; charset=UTF-8\r\n",
            b"text/event-stream ; charset=utf-8",
        ),
        (OK + b"content-type: text/event-stream2\r\n", b""),
        (OK + b"content-type: text/plain\r\n", b""),
        (OK + b"x-content-type: text/event-stream\r\n", b""),
        (OK + KIND + b"content-length: 10\r\n", b""),
        (OK + KIND + b"content-encoding: gzip\r\n", b""),
        (b"HTTP/1.1 201 Created\r\n" + KIND, b""),
        (b"HTTP/1.1 204 No Content\r\n", b""),
        (b"", b""),
    ],
)
def test_only_a_response_that_another_worker_can_go_on_with_is_agreed(head, agreed):
    assert agreed_by(head + b"\r\n") == agreed
    assert agreed_by(head + b"\r\n5\r\n" + KIND + b"content-length: 1\r\n\r\n") == agreed


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"", b"last-event-id: 7\r\n"),
        (b"Last-Event-ID: 6\r\nA: b\r\n", b"A: b\r\nlast-event-id: 7\r\n"),
        (b"A: b\r\nlast-event-id:6\r\nlast-event-id: 5\r\n", b"A: b\r\nlast-event-id: 7\r\n"),
        (b"A: last-event-id: 6\r\n", b"A: last-event-id: 6\r\nlast-event-id: 7\r\n"),
        (b"X-Last-Event-ID: 6\r\n", b"X-Last-Event-ID: 6\r\nlast-event-id: 7\r\n"),
    ],
)
def test_the_last_id_replaces_that_of_the_client(fields, expected):
    assert with_last_id(GET + fields + b"\r\n", b"7") == GET + expected + b"\r\n"
    assert with_last_id(GET + fields + b"\r\n", b"") == GET + fields + b"\r\n"


def test_what_is_behind_a_head_and_in_a_chunk():
    assert behind_head(OK + b"\r\n5\r\na\r\n\r\n\r\n") == b"5\r\na\r\n\r\n\r\n"
    assert chunk_of(b"5\r\na\r\n\r\n\r\n") == b"a\r\n\r\n"
    assert (behind_head(OK + b"\r\n"), chunk_of(b"")) == (b"", b"")
