"""Where a request ends: `RequestEnd` against requests whose ends are known, and the parsers of the engines."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ._feeding import Answers, borders, check

token = st.text("abcdefgXYZ-0123", min_size=1, max_size=8)
spaces = st.sampled_from(["", " ", "\t", "  "])
values = st.text("abc xyz:;,=0123456789", max_size=20).map(str.strip)
names = token.map(lambda name: "X-" + name)


@st.composite
def requests(draw):
    """The bytes of one request."""
    method = draw(st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE"]))
    headers = [f"{name}:{draw(spaces)}{draw(values)}" for name in draw(st.lists(names, max_size=3))]
    body = draw(st.binary(max_size=60) | st.sampled_from([b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n"]))
    how = draw(st.sampled_from(["none", "length", "chunked"]))
    if how == "length":
        name = draw(st.sampled_from(["Content-Length", "content-length", "CONTENT-LENGTH"]))
        headers.append(f"{name}:{draw(spaces)}{len(body)}{draw(spaces)}")
    elif how == "chunked":
        headers.append(draw(st.sampled_from(["Transfer-Encoding: chunked", "transfer-encoding:Chunked"])))
        sizes = draw(st.lists(st.integers(1, 20), max_size=5))
        body = in_chunks(body, sizes, draw(st.sampled_from([b"", b";a", b';a="b;c"', b";0"])), draw(trailers))
    else:
        body = b""
    draw(st.randoms(use_true_random=False)).shuffle(headers)
    head = "\r\n".join([f"{method} /{draw(token)} HTTP/1.1", "Host: x", *headers])
    return head.encode() + b"\r\n\r\n" + body


trailers = st.sampled_from([b"", b"T: r\r\n", b"T: 0\r\nX-Sum: 7\r\n"])


def in_chunks(body, sizes, extension, trailer):
    chunks = []
    for size in sizes:
        piece, body = body[:size], body[size:]
        if piece:
            chunks.append(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece))
    return b"".join(chunks) + b"0" + extension + b"\r\n" + trailer + b"\r\n"


cuttings = st.lists(st.integers(1, 600), max_size=12)


@given(st.lists(requests(), min_size=1, max_size=4), cuttings)
def test_each_request_ends_where_it_ends_however_it_comes(sent, cuts):
    ends = [sum(map(len, sent[: count + 1])) for count in range(len(sent))]
    assert borders(b"".join(sent), cuts) == (ends, False)


@given(st.lists(requests(), min_size=1, max_size=3))
def test_byte_by_byte(sent):
    data = b"".join(sent)
    ends = [sum(map(len, sent[: count + 1])) for count in range(len(sent))]
    assert borders(data, range(1, len(data))) == (ends, False)


@given(requests(), st.data())
def test_what_is_not_there_wholly_is_not_complete(one, data):
    short = one[: data.draw(st.integers(0, len(one) - 1))]
    assert borders(short) == ([], False)


@given(st.binary(max_size=300), cuttings)
def test_garbage_raises_nothing(data, cuts):
    borders(data, cuts)


SPLICES = [
    b"\n", b"\r", b"\r\n", b"\n\n", b" ", b"\t", b"\0", b":", b";", b",", b"0", b"Content-Length: 3\r\n", b"_",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding: chunked, chunked\r\n",
    b"Content-Length: +3\r\n", b"Content-Length : 3\r\n", b"Upgrade: h2c\r\n", b"Connection: upgrade\r\n",
]  # fmt: skip


@st.composite
def broken(draw):
    """A request, or two, with something put in, or a byte taken away or changed."""
    data = draw(requests()) + draw(requests() | st.just(b""))
    for _ in range(draw(st.integers(1, 3))):
        lines = [place + 2 for place in range(len(data)) if data[place : place + 2] == b"\r\n"]
        place = draw(st.integers(0, len(data)) | st.sampled_from(lines or [0]))
        gone = draw(st.integers(0, 2))
        data = data[:place] + draw(st.sampled_from([b"", *SPLICES])) + data[place + gone :]
    return data


@settings(max_examples=300, deadline=None)
@given(broken(), cuttings, st.sampled_from(Answers))
@example(b"GET / HTTP/1.1\nHost: x\n\nPOST / HTTP/1.1\r\nHost: x\r\n\r\n", [], Answers.PROMPT)
@example(
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    [],
    Answers.PROMPT,
)
@example(b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", [], Answers.PROMPT)
@example(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [], Answers.PROMPT)
@example(b"PRI  / HTTP/1.1\r\n\r\n", [], Answers.PROMPT)
@example(b"\rPRI / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", [], Answers.PROMPT)
@example(
    b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    [],
    Answers.PROMPT,
)
@example(b"H / HTTP/1.1\nHost:\n\n", [], Answers.LATE)
def test_what_a_parser_takes_for_a_request_ends_there_or_is_opaque(data, cuts, answers):
    check(data, cuts, answers)


@given(st.lists(requests(), min_size=1, max_size=4), cuttings, st.sampled_from(Answers))
def test_of_a_pipeline_each_request_ends_where_both_parsers_end_it(sent, cuts, answers):
    assert check(b"".join(sent), cuts, answers) == len(sent)
