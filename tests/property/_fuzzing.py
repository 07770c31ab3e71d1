"""Streams by number, checked one after the other; the one that fails is made small."""

import random

from ._feeding import Answers, Disagreement, borders, check
from ._streams import cuts, mutated, stream

ANSWERS = list(Answers)


def case(number):
    """A stream, how it comes and when it is answered: the same for the same number."""
    rng = random.Random(number)
    data = stream(rng)
    if number % 8:
        data = mutated(rng, data)
    return data, cuts(rng, data, _ends(data)), rng.choice(ANSWERS)


def _ends(data):
    try:
        return borders(data)[0]
    except Disagreement:
        return []


def fuzz(numbers):
    """Check them all.

    Returns:
        Of how many requests `RequestEnd` told the end.
    """
    ends = 0
    for number in numbers:
        data, cut, answers = case(number)
        try:
            ends += check(data, cut, answers)
        except Disagreement as error:
            small = smallest(data, cut, answers)
            raise Disagreement(
                f"stream {number}: {error}\n{answers}, cut at {cut}: {data}\nsmall: {small}"
            ) from None
    return ends


def smallest(data, cut, answers):
    """As few of its bytes as disagree, somehow cut."""
    size = len(data)
    while size := size // 2:
        start = 0
        while start < len(data):
            fewer = data[:start] + data[start + size :]
            if _disagree(fewer, cut, answers):
                data = fewer
            else:
                start += size
    return data


def _disagree(data, cut, answers):
    try:
        for each in (cut, [], _ends(data), range(1, len(data))):
            check(data, each, answers)
    except Disagreement:
        return True
    return False
