"""The corpus, cut in two, and a worker that dies in between: nothing is executed twice, or that was not asked for.

What a client gets is what it would have got, or less: never a part that could pass for the whole.
"""

import random
import re
from collections import Counter
from types import NoneType

import pytest

from fdpass.serve.dispatcher.recovery import Action

from .entries import FILES, both_ends, cuts, read, two

DEATHS = 30  # of the suite, in each file

SAFE = {"GET", "HEAD", "OPTIONS", "TRACE"}
ANSWER = re.compile(rb"HTTP/1\.1 [2-5]\d\d ")
REFUSED = re.compile(rb"HTTP/1\.1 502 [^\r]*\r\n(.+\r\n)*\r\n.*", re.DOTALL)


def wrongs(three, name, pieces):
    """What must not be, of an exchange whose worker dies after the first piece."""
    lives, dies = three.exchange("custody on", pieces), three.exchange("custody on", pieces, dies=True)
    said = [*calls_wrong(lives.seen, dies.seen), *answers_wrong(lives, dies), *end_wrong(dies)]
    return [f"{name}\n  {' and '.join(said)}\n  lives: {lives}\n  dies:  {dies}\n  {dies.seen}"] if said else []


def calls_wrong(lives, dies):
    """No call that is not due; one more than is due if the method is safe."""
    due, made = (Counter(call for call in seen if called(call)) for seen in (lives, dies))
    return [
        f"{call[1:3]} is called {count} times, not {due[call]}"
        for call, count in made.items()
        if not due[call] or count > due[call] + (call[1] in SAFE)
    ]


def called(call):
    return isinstance(call, tuple) and call[0] in {"http", "websocket"}


def answers_wrong(lives, dies):
    """All of it; or whole answers, and then nothing, or a 502; or a part of one, and a reset."""
    (due, kept, *_), (out, state, *_) = lives.whole, dies.whole
    if out == due:
        return ["it does not end"] if state == "kept" != kept else []
    if state == "kept":
        return ["it neither goes on nor ends"]
    if due.startswith(out) and (state == "reset" or b"HTTP/1.1 101 " in out):  # of a WebSocket a part is no whole
        return []
    for end in [*(match.start() for match in ANSWER.finditer(due)), len(due)]:
        if out.startswith(due[:end]) and (out == due[:end] or REFUSED.fullmatch(out[end:])):
            return []
    return ["what comes is no part of what is due"]


def end_wrong(dies):
    """A reset, if part of an answer was out."""
    before = dies.seen[
        : next(index for index, each in enumerate(dies.seen) if isinstance(each, (Action, NoneType)))
    ]
    calls = [call[0] for call in before if called(call)]
    heads = ANSWER.findall(dies.steps[0][0])
    if (
        set(calls) == {"http"}
        and before.count("answered") < len(calls) == len(heads)
        and dies.steps[0][1] == "kept"
    ):
        return [] if Action.RESET in dies.seen else ["a part of an answer could pass for the whole"]
    return []


def pieces_of(entry, cut):
    return [piece for piece in two(entry, cut) if piece]


def borders(entry):
    """Where something ends in it: there most can go wrong."""
    ends = [match.end() + by for match in re.finditer(rb"\n\r?\n", entry.data) for by in (-1, 0, 1)]
    return [*(end for end in ends if end < len(entry.data)), len(entry.data)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_worker_that_dies_within_a_request_changes_no_answer(three, file):
    chosen, found, entries = random.Random(file.stem), [], read(file)
    for _ in range(DEATHS):
        entry = chosen.choice(entries)
        cut = chosen.choice(chosen.choice([cuts(entry), borders(entry)]))
        pieces = chosen.choice(both_ends(pieces_of(entry, cut)))
        found += wrongs(three, f"{entry.name} | dies at {cut}", pieces)
    assert not found, "\n".join(found)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_wherever_a_worker_dies_it_changes_no_answer(three, file):
    found = []
    for entry in read(file):
        for cut in (*cuts(entry), len(entry.data)):
            pieces = both_ends(pieces_of(entry, cut))[cut % 2]
            found += wrongs(three, f"{entry.name} | dies at {cut}", pieces)
    assert not found, "\n".join(found)
