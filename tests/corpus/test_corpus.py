"""Several hundred requests, whole and cut in two: custody changes nothing of what a client or an application sees.

Each goes to fdpass with custody, to fdpass without, and to uvicorn alone, and all that comes back is the same.
"""

import random

import pytest

from .entries import FILES, IDLE, both_ends, cuts, read, two

CUTS = 600  # of the suite, in all files, with each parser
IDLE_ONE_OF = 20  # entries, in the suite
READ = 60 * 1024  # the most that custody reads at once

# What custody does otherwise, and means to: why; for which pieces, and which outcome of uvicorn. Each time uvicorn
# says the same as custody if it gets the same bytes in the portions in which custody gives them to its parser.
DELIBERATE = {
    "A request is answered before the next is looked at. So good ones before a broken one get their answers; of "
    "uvicorn, only if these are out when it finds that.": lambda pieces, plain: b"HTTP/1.1 400 " in plain.whole[0],
    "The same: what comes of the next stops the timer of keep-alive. That of uvicorn goes on if it came with the "
    "request before, and ends even a WebSocket.": lambda pieces, plain: IDLE in pieces,
    "A read takes 60 KiB, and not 256. So a longer head comes in two, which h11 does not take; and a trailer may "
    "come after the application got the header fields, among which httptools puts it.": lambda pieces, plain: (
        sum(map(len, sent(pieces))) > READ
    ),
}

# Likewise, at the end of a connection: for which pieces, and which two outcomes.
DELIBERATE_ENDS = {
    "The application that runs is told of its client's end, and its connection ends then. uvicorn tells that of "
    "the request behind it, which waits, and keeps the connection.": lambda pieces, on, plain: (
        (on.seen[:-1], on.steps[-1][1]) == (plain.seen, "ended") and is_told(on)
    ),
    "A part of an answer to HTTP/1.0 is reset: it could pass for the whole. (Of one to CONNECT h11 sends but the "
    "head.)": lambda pieces, on, plain: (
        (on.seen, on.steps[-1][1], plain.steps[-1][1]) == (plain.seen, "reset", "ended")
        and b"HTTP/1.0" in b"".join(sent(pieces))
        and any(part in pieces[0] for part in (b"/half ", b"/stuck ", b"CONNECT "))
    ),
}


def is_told(outcome):
    """Whether the last thing that the application saw is its client's end."""
    return outcome.seen[-1:] == ("http.disconnect",)


def differences(three, name, pieces):
    """What is not the same, and not meant to be other: none, or a text for people."""
    on, off, plain = three.outcomes(pieces)
    if off != plain:
        return [f"{name}\n  off:     {off}\n  uvicorn: {plain}"]
    if on == plain or is_deliberate(three, pieces, on, plain):
        return []
    same = [step for step, _ in on.steps] == [step for step, _ in plain.steps]
    if same and any(holds(pieces, on, plain) for holds in DELIBERATE_ENDS.values()):
        return []
    return [f"{name}\n  on:      {on}\n  uvicorn: {plain}"]


def is_deliberate(three, pieces, on, plain):
    """See `DELIBERATE`. No byte is kept from the parser of a connection that is not over."""
    if b"".join(on.portions) != b"".join(sent(pieces)) and on.steps[-2][1] == "kept" and not is_told(on):
        return False
    if not any(holds(pieces, plain) for holds in DELIBERATE.values()):
        return False
    idle = [IDLE] if IDLE in pieces else []
    return three.exchange("uvicorn", [*on.portions, *idle]).whole == on.whole


def sent(pieces):
    return [piece for piece in pieces if piece != IDLE]


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
