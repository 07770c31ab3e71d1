"""Several hundred requests, whole and cut in two: client and application see what they see with uvicorn.

Each goes to fdpass with custody, to fdpass without, and to uvicorn alone. Custody changes nothing; and where our
protocol differs from uvicorn's, it means to.
"""

import random
import re

import pytest

from .entries import FILES, IDLE, both_ends, cuts, read, two

CUTS = 600  # of the suite, in all files
IDLE_ONE_OF = 20  # entries, in the suite
REFUSED = b"HTTP/1.1 400 Bad Request\r\ncontent-type"
TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type"
HEAD = 64 * 1024
HEADS = re.compile(rb"[/.][0-9]\r\n((?:[^\r\n]+\r\n)*)\r\n")
HOST = re.compile(rb"^host[ \t]*:[ \t]*([^\r\n]*?)[ \t]*\r\n", re.IGNORECASE | re.MULTILINE)
GOOD_HOST = re.compile(rb"(\[[0-9a-f:.]+\]|[\w.%*,;=-]*)(:[0-9]*)?", re.IGNORECASE | re.ASCII)
READ = 60 * 1024  # the most that custody reads at once: what is longer comes to the parser in more than one piece
CHUNKS = b"transfer-encoding: chunked\r\n"

# Where our protocol differs from uvicorn's: why; and of which pieces and which two outcomes that can be true.
DELIBERATE = {
    "A request is answered before the next is looked at. So good ones before a broken one get their answers; of "
    "uvicorn, only if these are out when it finds that. And a broken one that has come whole is not given to the "
    "application.": lambda pieces, ours, plain: (
        REFUSED in plain.whole[0]
        and ended(ours)
        and is_refused(ours)
        and all(one == other for one, other in zip(calls(ours), calls(plain), strict=False))
    ),
    "The application is told of its client's end, and its connection ends then. uvicorn tells that of the request "
    "behind it, which waits, and keeps the connection.": lambda pieces, ours, plain: (
        is_told(ours) and ours.seen[:-1] == plain.seen and ours.whole[0] == plain.whole[0]
    ),
    "HTTP/1.0 has no chunks and no 100 Continue, which uvicorn sends. So an answer has a length, or its end is "
    "that of the connection: a cut one is reset, as it could pass for the whole.": lambda pieces, ours, plain: (
        re.search(rb"(HTTP|ICE)/1.0\r", said(pieces)) is not None
        and calls(ours) == calls(plain)
        and without_chunks(ours.whole[0]) == without_chunks(plain.whole[0])
    ),
    "An upgrade to a protocol that nobody speaks is no reason to lose the body, or the requests behind it, as "
    "uvicorn does. Behind the handshake of a WebSocket nothing may come.": lambda pieces, ours, plain: (
        b"upgrade:" in said(pieces).lower()
        and (is_among(called(plain), called(ours)) or (ended(ours) and REFUSED in ours.whole[0]))
    ),
    "Behind CONNECT comes no request, whatever the answer was.": lambda pieces, ours, plain: (
        said(pieces).startswith(b"CONNECT ") and ours.seen == plain.seen[: len(ours.seen)] and ended(ours)
    ),
    "Connection: close is obeyed as a trailer too. uvicorn loses what comes then.": lambda pieces, ours, plain: (
        re.search(rb"0\r\n(.+\r\n)*connection: close", said(pieces).lower()) is not None
        and ended(ours)
        and but_headers(ours) == but_headers(plain)
    ),
    "Trailers are no headers: no proxy has checked them. For uvicorn they are.": lambda pieces, ours, plain: (
        has_trailer(said(pieces)) and but_headers(ours) == but_headers(plain) and ours.whole[0] == plain.whole[0]
    ),
    "A head of more than 64 KiB is refused; uvicorn waits on, and takes it.": lambda pieces, ours, plain: (
        len(said(pieces)) > HEAD and ours.whole[0].startswith(TOO_LONG) and ended(ours) and not calls(ours)
    ),
    "A request has one Host, and it is well-formed: RFC 9112, 3.2.": lambda pieces, ours, plain: (
        has_bad_host(said(pieces))
        and REFUSED in ours.whole[0][-200:]
        and ended(ours)
        and all(one == other for one, other in zip(calls(ours), calls(plain), strict=False))
    ),
    "An absolute URI without a path has the path /.": lambda pieces, ours, plain: (
        re.match(rb"[A-Z]+ https?://[^/ ]* ", said(pieces)) is not None and calls(ours)[0][0][2] == b"/"
    ),
    "What comes of the next request stops the timer of keep-alive. That of uvicorn goes on if it came with the "
    "request before, and ends even a WebSocket.": lambda pieces, ours, plain: (
        IDLE in pieces and ours.seen[: len(plain.seen)] == plain.seen
    ),
}


def said(pieces):
    return b"".join(piece for piece in pieces if piece != IDLE)


def ended(outcome):
    return outcome.steps[-1][1] in {"ended", "reset"}


def calls(outcome):
    """What the application was called for, and how each call went: but not of one that the client broke off."""
    found = []
    for each in outcome.seen:
        if isinstance(each, tuple) and each[0] in {"http", "websocket"}:
            found.append([])
        if found:
            found[-1].append(each)
    return [call for call in found if not (isinstance(call[-1], tuple) and call[-1][0] == "gone")]


def called(outcome):
    """What the application was called for."""
    return [call[0] for call in calls(outcome)]


def but_headers(outcome):
    """The calls of the application, without what their headers were."""
    return [(*call[0][:-1], *call[1:]) for call in calls(outcome)]


def has_trailer(data):
    """Whether some chunked body ends with trailers."""
    return re.search(rb"\r\n0[^\r\n]*\r\n[!-~]+:", data) is not None


def has_bad_host(data):
    """Whether a request in it has no Host, several, or a malformed one."""
    hosts = [HOST.findall(head) for head in HEADS.findall(data)]
    return any(len(found) != 1 or not GOOD_HOST.fullmatch(found[0]) for found in hosts)


def is_among(few, many):
    """Whether all of few are in many, in this order."""
    left = iter(many)
    return all(each in left for each in few)


def is_refused(outcome):
    """Whether the last thing that comes is a 400, or the end of a connection whose last request has failed."""
    last = outcome.whole[0]
    return REFUSED in last[-200:] or b"connection: close" in last or outcome.seen[-1:] != ("answered",)


def is_told(outcome):
    """Whether the last thing that the application saw is its client's end."""
    return outcome.seen[-1:] == ("http.disconnect",)


def without_chunks(out):
    """Answers without what tells where their bodies end, and without 100 Continue."""
    out = out.replace(CHUNKS, b"").replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    out = re.sub(rb"content-length: \d+\r\n", b"", out)
    return re.sub(rb"(?:^|(?<=\n))[0-9a-f]+\r\n((?:[^\r]*?)(?:\r\n)?)", rb"\1", out).replace(b"\r\n", b"")


def differences(three, name, pieces):
    """What is not the same, and not meant to be other: none, or a text for people."""
    on, off, plain = three.outcomes(pieces)
    if on != off and not (
        len(said(pieces)) > READ and three.exchange("custody off", on.portions).whole == on.whole
    ):
        return [f"{name}\n  on:      {on}\n  off:     {off}"]
    if off == plain or any(holds(pieces, off, plain) for holds in DELIBERATE.values()):
        return []
    return [f"{name}\n  fdpass:  {off}\n  uvicorn: {plain}"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_sent_whole_is_answered_as_by_uvicorn(three, file):
    found = []
    for number, entry in enumerate(read(file)):
        found += differences(three, entry.name, both_ends([entry.data])[number % 2])
    assert not found, "\n".join(found)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_kept_ends_at_the_same_time(three, file):
    found = []
    for entry in read(file)[::IDLE_ONE_OF]:
        found += differences(three, f"{entry.name} | idle", [entry.data, IDLE])
    assert not found, "\n".join(found)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_sent_in_two_pieces_is_answered_as_by_uvicorn(three, file):
    chosen, found, entries = random.Random(file.stem), [], read(file)
    for _ in range(CUTS // len(FILES)):
        entry = chosen.choice(entries)
        cut = chosen.choice(cuts(entry))
        found += differences(three, f"{entry.name} | cut at {cut}", chosen.choice(both_ends(two(entry, cut))))
    assert not found, "\n".join(found)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_wherever_it_is_cut_it_is_answered_as_by_uvicorn(three, file):
    found = []
    for number, entry in enumerate(read(file)):
        found += differences(three, entry.name, both_ends([entry.data])[(number + 1) % 2])
        found += differences(three, f"{entry.name} | idle", [entry.data, IDLE])
        for cut in cuts(entry):
            found += differences(three, f"{entry.name} | cut at {cut}", both_ends(two(entry, cut))[cut % 2])
    assert not found, "\n".join(found)
