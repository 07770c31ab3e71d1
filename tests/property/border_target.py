"""The check of `_feeding` as a target for atheris, in a process of its own.

Its arguments are those of libFuzzer. The first byte of an input says when the application answers, the second how
the rest is cut: not, where requests end, byte by byte, or each so many bytes.
"""

import random
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fdpass.serve.worker.custody.request_end", "h11"]):
    from tests.property._feeding import borders, check
    from tests.property._fuzzing import ANSWERS, case


def target(data):
    stream = data[2:]
    if stream:
        how = data[1]
        if how == 1:
            cuts = borders(stream)[0]
        else:
            cuts = range(max(1, how - 1), len(stream), max(1, how - 1)) if how else ()
        check(stream, cuts, ANSWERS[data[0] % len(ANSWERS)])


def write_seeds(folder, count):
    """Streams of the generator, for atheris to begin with."""
    rng = random.Random(count)
    for number in range(count):
        (folder / f"seed-{number}").write_bytes(bytes([rng.randrange(3), rng.randrange(40)]) + case(number)[0])


if __name__ == "__main__":
    write_seeds(Path(sys.argv[1]), 2000)
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
