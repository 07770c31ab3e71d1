"""The check of `_known` as a target for atheris, in a process of its own.

Its arguments are those of libFuzzer. An input is a request; the same with a usual first line is known.
"""

import random
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fdpass.serve.worker.http", "fdpass.serve.worker.custody.request_end"]):
    from tests.property._known import check, remember
    from tests.property._streams import mutated, stream

    from fdpass.serve.worker.http.request import KnownHeaders


def target(data):
    known = KnownHeaders()
    remember(known, b"GET / HTTP/1.1" + data[data.find(b"\r\n") :])
    check(known, data)
    remember(known, data)
    check(known, data)


def write_seeds(folder, count):
    """Streams of the generator, for atheris to begin with."""
    rng = random.Random(count)
    for number in range(count):
        data = stream(rng)
        (folder / f"seed-{number}").write_bytes(mutated(rng, data) if number % 2 else data)


if __name__ == "__main__":
    write_seeds(Path(sys.argv[1]), 2000)
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
