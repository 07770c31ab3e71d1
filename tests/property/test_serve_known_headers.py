"""`KnownHeaders` finds what the parser finds, or nothing: a difference could be used to smuggle a request."""

import logging
import random
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fdpass.serve.worker.http import request
from fdpass.serve.worker.http.request import KnownHeaders

from ._feeding import Disagreement
from ._known import check, remember
from ._streams import (
    BODIES,
    CONFLICTS,
    FIELDS,
    METHODS,
    PIECES,
    TARGETS,
    VERSIONS,
    cuts,
    mutated,
    pieces,
    place,
    stream,
)
from ._twins import Twins

STREAMS = 6_000
PLAIN = b"\r\nHost: x\r\nX-A: b, c=d; \xff\r\nConnection: close\r\n\r\n"
LINES = [
    b"%b %b%b" % (method, target, version) for method in METHODS for target in TARGETS for version in VERSIONS
]
USUAL = [
    b"GET /a?late HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: x\r\nX-A: b\r\n\r\n",
    b"PUT /c HTTP/1.1\r\nhost: x\r\n\r\n",
    b"POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n",
    b"GET /d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
]
LONG = [b"GET /%b HTTP/1.1" % (b"a" * size) for size in (1000, 4081, 4082, 4083, 5000, 65_521, 65_522, 70_000)]
lines = (
    st.sampled_from([*LINES, *LONG]) | st.binary(max_size=40) | st.builds(b"GET /%b HTTP/1.1".__mod__, st.binary())
)
fields = st.lists(st.sampled_from([*FIELDS, *CONFLICTS, *PIECES]) | st.binary(max_size=20), max_size=4).map(
    lambda found: b"".join(b"\r\n" + field for field in found) + b"\r\n\r\n"
)


def knowing(*requests):
    known = KnownHeaders()
    for each in requests:
        remember(known, each)
    return known


@given(lines, lines, fields, st.sampled_from([b"", *BODIES, *PIECES]))
@example(b"GET / HTTP/1.1", b"GET /#a HTTP/1.1", PLAIN, b"")
@example(b"GET / HTTP/1.1", b"GET / HTTP/1.0", PLAIN, b"")
@example(b"GET / HTTP/1.1", b"GET / HTTP/1.1", PLAIN, b"\r\n")
@example(b"GET / HTTP/1.1", b"GET /\r\nX: HTTP/1.1", PLAIN, b"")
@example(b"CONNECT x:443 HTTP/1.1", b"GET / HTTP/1.1", PLAIN, b"")
@example(b"POST / HTTP/1.1", b"GET / HTTP/1.1", b"\r\nContent-Length: 3\r\n\r\n", b"abc")
@example(b"GET / HTTP/1.1", b"GET / HTTP/1.1", b"\r\nX: y\n\nGET /other HTTP/1.1\r\n\r\n", b"")
def test_what_is_found_is_what_the_parser_finds(first, then, known_fields, behind):
    for taken in (first + known_fields, first + known_fields + behind):
        known = knowing(taken, b"GET / HTTP/1.1" + known_fields)
        for line in (then, first):
            for data in (line + known_fields, line + known_fields + behind, behind + line + known_fields):
                check(known, data)


@pytest.mark.parametrize("method", request._USUAL_LINE.__self__.pattern[1:].partition(b")")[0].split(b"|"))
def test_the_usual_request_is_found(method):
    known = knowing(b"GET / HTTP/1.1" + PLAIN)
    for target in (b"/", b"//", b"/a/b?c=d&e=%20f", b"/?", b'/"!$~\\', b"/" + b"a" * 4000):
        assert check(known, b"%b %b HTTP/1.1%b" % (method, target, PLAIN))


@pytest.mark.parametrize("byte", range(256))
def test_any_byte_put_anywhere_leaves_what_the_parser_finds_or_nothing(byte):
    """Between two bytes, and in place of one."""
    plain = b"GET /a?b HTTP/1.1" + PLAIN
    known, one, found = knowing(plain), bytes([byte]), []
    for index in range(len(plain) + 1):
        found += [index for gone in range(2) if check(known, plain[:index] + one + plain[index + gone :])]
    if one in b"!\"$%&'()*+,-./:;<=>?@[\\]^_`{|}~" or one.isalnum():
        assert {5, 6, 7, 8} <= set(found)
    elif one != b"#":
        assert all(plain[index : index + 1] == one for index in found)


def test_what_is_known_is_bounded():
    known = KnownHeaders()
    for number in range(1000):
        known.add(b"GET / HTTP/1.1\r\nX: %d\r\n\r\n" % number, [], b"", closes=False)
    known.add(b"GET / HTTP/1.1\r\nX: " + b"a" * 2100 + b"\r\n\r\n", [], b"", closes=False)
    assert 0 < len(known._known) <= 256
    assert all(len(each) <= 2048 for each in known._known)


def fuzz(numbers):
    """Requests that are remembered one after the other, and the same with another first line, or mutated."""
    known, found = KnownHeaders(), 0
    for number in numbers:
        rng = random.Random(number)
        data = stream(rng)
        end = data.find(b"\r\n\r\n") + 4 or None
        for each in (data, data[:end]):
            remember(known, each)
            found += check(known, each)
            rest = each[each.find(b"\r\n") :]
            for line in (
                *rng.choices(LINES, k=3),
                b"PUT /a?%d HTTP/1.1" % number,
                mutated(rng, b"GET /a HTTP/1.1"),
            ):
                found += check(known, line + rest)
            odd = mutated(rng, each)
            remember(known, odd)
            found += check(known, odd)
    return found


def test_streams():
    assert fuzz(range(STREAMS)) > STREAMS // 2


FAULTS = {
    "a fragment is a part of the target": rb"(GET) (/[!-~]*) HTTP/1\.1(?=\r\n)",
    "an end of a line is a part of the target": rb"(GET) (/[^ ]*) HTTP/1\.1(?=\r\n)",
    "a space is a part of the target": rb"(GET) (/[!\"$-~ ]*) HTTP/1\.1(?=\r\n)",
    "a high byte is a part of the target": rb"(GET) (/[!\"$-~\x80-\xff]*) HTTP/1\.1(?=\r\n)",
    "a target begins with anything": rb"(GET) ([!\"$-~]+) HTTP/1\.1(?=\r\n)",
    "HTTP/1.0 is HTTP/1.1": rb"(GET) (/[!\"$-~]*) HTTP/1\.[01](?=\r\n)",
    "HTTP/2.0 is HTTP/1.1": rb"(GET) (/[!\"$-~]*) HTTP/[12]\.[01](?=\r\n)",
    "a method is in small letters": rb"(?i:(GET) (/[!\"$-~]*) HTTP/1\.1)(?=\r\n)",
    "any name is a method": rb"([A-Z]+) (/[!\"$-~]*) HTTP/1\.1(?=\r\n)",
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name, monkeypatch):
    monkeypatch.setattr(request, "_USUAL_LINE", re.compile(FAULTS[name]).match)
    with pytest.raises(Disagreement):
        fuzz(range(STREAMS))


def test_an_application_is_called_as_if_nothing_were_known(caplog):
    """For requests in any pieces; a piece of a body can be the bytes of a known request."""
    caplog.set_level(logging.CRITICAL, "fdpass.serve")
    twins = Twins()
    for number in range(STREAMS // 2):
        rng = random.Random(number)
        data = stream(rng)
        if number % 2:
            data = mutated(rng, data)
        if rng.random() < 0.3:
            data = data.replace(b" / ", b" /?late ")
        come = pieces(data, [*cuts(rng, data, ends_of_heads(data)), place(rng, data)])
        for _ in range(rng.randrange(3)):
            come.insert(rng.randint(0, len(come)), rng.choice(USUAL))
        one, other = twins.told(come)
        assert one == other, (number, come)
    assert twins.known.found > STREAMS // 8


def ends_of_heads(data):
    return [match.end() for match in re.finditer(rb"\r\n\r\n", data)]


@pytest.mark.parametrize("size", [0, 1, 4096])
def test_a_request_with_a_body_is_found_if_the_body_has_the_same_length(size):
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    known = knowing(head + b"a" * size)
    assert check(known, head.replace(b"/a", b"/b") + b"b" * size)
    for other in {0, 1, size - 1, size + 1, 4095, 4097} - {size, -1}:
        assert not check(known, head + b"b" * other)


def test_a_body_in_chunks_is_left_to_the_parser():
    data = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n\r\n0\r\n\r\n0\r\n\r\n"
    assert not check(knowing(data), data)


@pytest.mark.parametrize(
    "usual",
    [
        lambda fields, body: fields.endswith(b"\r\n\r\n"),
        lambda fields, body: True,
    ],
    ids=["what tells of the body is not looked at", "the end of the headers is not looked for"],
)
def test_a_fault_in_what_is_remembered_is_found(usual, monkeypatch):
    monkeypatch.setattr(request, "_is_usual", usual)
    with pytest.raises(Disagreement):
        fuzz(range(STREAMS))
