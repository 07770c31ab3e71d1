"""Heads of responses: a client finds in them what the application has given, and the end that the server means."""

from collections import Counter

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fdpass.serve.worker.http.response import CHUNKED, CLOSE, LENGTH, NONE, early_hints, head_of, trailers

DATE = b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
OURS = {b"date", b"connection", b"transfer-encoding"}  # what the server may add
THEIRS = {b"content-length", b"transfer-encoding"}  # what it may leave out
CHUNK = b"3\r\nabc\r\n"
TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

token = st.lists(st.sampled_from(TOKEN), min_size=1, max_size=10).map(bytes)
text = st.lists(st.sampled_from([byte for byte in range(256) if byte == 9 or 32 <= byte != 127]), max_size=20)
usual = st.sampled_from(
    [
        (b"content-length", b"0"),
        (b"content-length", b"7"),
        (b"Content-Length", b"007"),
        (b"content-length", b"99999999999999999999"),
        (b"transfer-encoding", b"chunked"),
        (b"Transfer-Encoding", b"Chunked"),
        (b"connection", b"close"),
        (b"Connection", b"keep-alive,  Close"),
        (b"connection", b"keep-alive"),
        (b"Date", b"now"),
        (b"content-type", b"text/plain"),
        (b"set-cookie", b"a=b"),
        (b"x-content-length", b"3"),
        (b"content-length-x", b"3"),
        (b"xtransfer-encoding", b"chunked"),
    ]
)
odd = st.sampled_from(
    [
        (b"content-length", b"+7"),
        (b"content-length", b"7, 7"),
        (b"content-length", b""),
        (b"content-length", b" 7"),
        (b"transfer-encoding", b"gzip"),
        (b"transfer-encoding", b"gzip, chunked"),
        (b"transfer-encoding", b"identity"),
        (b"transfer-encoding", b" chunked\t"),
        (b"transfer-encoding", b""),
    ]
)
any_header = st.tuples(token, text.map(bytes))
headers = st.lists(usual | any_header, max_size=6) | st.lists(usual | odd, max_size=3)
statuses = st.sampled_from([200, 204, 205, 304, 404, 599]) | st.integers(200, 599)
flags = st.fixed_dictionaries({"to_head": st.booleans(), "old": st.booleans(), "closes": st.booleans()})
dangers = st.sampled_from([b"\r", b"\n", b"\0", b"\r\n", b"\r\nx: y", b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", b"\n x"])


def head_for(status, given_headers, how):
    """As `Exchange` asks for it; None if it refuses.

    A client that speaks HTTP/1.0 has no further request: its connection ends.
    """
    how["closes"] |= how["old"]
    try:
        return head_of(status, given_headers, DATE, **how)
    except RuntimeError:
        return None


def client_after(head, *, to_head):
    """A client that has sent a request and got this head; and the head as it reads it."""
    client = h11.Connection(h11.CLIENT)
    method = "HEAD" if to_head else "GET"
    client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(head)
    return client, client.next_event()


def events(client, data):
    """What the client reads in these bytes: its body, and whether it is whole."""
    client.receive_data(data)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    return body, isinstance(event, h11.EndOfMessage)


@settings(max_examples=300, deadline=None)
@given(statuses, headers, flags)
@example(200, [(b"transfer-encoding", b"gzip"), (b"content-length", b"7")], {"to_head": 0, "old": 0, "closes": 0})
@example(200, [(b"transfer-encoding", b"chunked")] * 2, {"to_head": 0, "old": 0, "closes": 0})
def test_a_client_finds_the_end_that_the_server_means(status, given_headers, how):
    made = head_for(status, given_headers, how)
    if made is None:
        return
    head, framing, length, closes = made
    client, _ = client_after(head, to_head=how["to_head"])
    if framing == NONE or (framing == LENGTH and not length):
        assert events(client, b"") == (b"", True)
    elif framing == LENGTH:
        assert events(client, b"abc") == (b"abc", False)
        assert length > 1000 or events(client, b"x" * (length - 3)) == (b"x" * (length - 3), True)
    elif framing == CHUNKED:
        assert not how["old"]
        assert events(client, CHUNK) == (b"abc", False)
        assert events(client, b"0\r\n\r\n") == (b"", True)
    else:
        assert framing == CLOSE
        assert closes
        assert events(client, CHUNK) == (CHUNK, False)
        assert events(client, b"") == (b"", True)
    if client.their_state is not h11.SEND_BODY and framing != CLOSE:
        assert client.their_state is (h11.MUST_CLOSE if closes else h11.DONE)
    assert closes >= how["closes"]


@given(statuses, headers, flags)
def test_a_head_has_what_the_application_gave(status, given_headers, how):
    made = head_for(status, given_headers, how)
    if made is None:
        return
    head, *_ = made
    _, response = client_after(head, to_head=how["to_head"])
    assert response.status_code == status
    assert head.count(b"HTTP/1.1 ") == 1 + sum(value.count(b"HTTP/1.1 ") for _, value in given_headers)
    assert head.count(b"\r\n") == head.count(b"\n") == head.count(b"\r") == 2 + len(response.headers)
    came = Counter((name, value.strip(b" \t").lower()) for name, value in response.headers)
    gave = Counter((name.lower(), value.strip(b" \t").lower()) for name, value in given_headers)
    assert {name for name, _ in came - gave} <= OURS
    assert {name for name, _ in gave - came} <= THEIRS
    assert (b"date" in {name for name, _ in came - gave}) == (b"date" not in {name for name, _ in gave})


@given(statuses, headers, flags)
def test_a_header_is_the_same_however_often_it_was_sent(status, given_headers, how):
    """Those that were sent are remembered."""
    first = head_for(status, given_headers, how)
    assert head_for(status, [list(pair) for pair in given_headers], how) == first
    assert head_for(status, given_headers, how) == first


@given(statuses, headers, flags, st.data())
def test_no_header_can_end_where_none_ends(status, given_headers, how, data):
    name, value = data.draw(usual | any_header)
    danger = data.draw(dangers)
    place = data.draw(st.integers(0, max(len(name), len(value))))
    which = data.draw(st.sampled_from([tuple, list]))
    for hurt in (
        (name[:place] + danger + name[place:], value),
        (name, value[:place] + danger + value[place:]),
        (name, bytearray(danger + value)),
    ):
        at = data.draw(st.integers(0, len(given_headers)))
        for _ in range(2):
            with pytest.raises(RuntimeError):
                head_of(status, [*given_headers[:at], which(hurt), *given_headers[at:]], DATE, **how)
            with pytest.raises(RuntimeError):
                trailers([(b"x-a", b"b"), which(hurt)])
    with pytest.raises(RuntimeError):
        early_hints([b"</a>", value[:place] + danger + value[place:]])


@pytest.mark.parametrize("status", [100, 101, 199, 600, 1000, 0, -200, None, "200", b"200", 200.5])
def test_a_status_that_is_not_of_a_final_response_is_refused(status):
    with pytest.raises(RuntimeError):
        head_of(status, [], DATE, to_head=False, old=False, closes=False)


@pytest.mark.parametrize("value", [b"-1", b"+1", b"1_0", b" 1", b"", b"a", b"1" * 19, b"1" * 5000])
def test_a_length_that_is_none_is_refused(value):
    """Also one of more digits than int() takes."""
    with pytest.raises(RuntimeError):
        head_of(200, [(b"content-length", value)], b"", to_head=False, old=False, closes=False)


@given(st.lists(st.tuples(token.map(b"x-".__add__), text.map(bytes)), max_size=4))
def test_a_client_reads_the_trailers_that_were_given(given_headers):
    head, *_ = head_of(200, [], DATE, to_head=False, old=False, closes=False)
    client, _ = client_after(head, to_head=False)
    client.receive_data(trailers(given_headers))
    end = client.next_event()
    assert isinstance(end, h11.EndOfMessage)
    assert list(end.headers) == [(name.lower(), value.strip(b" \t")) for name, value in given_headers]
