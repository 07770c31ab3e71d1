"""`RequestEnd` against the parsers of the engines, for streams of any kind: as many as time allows."""

import importlib.util
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fdpass.serve.worker.custody import request_end as requests

from ._feeding import Disagreement
from ._fuzzing import fuzz

ROOT = Path(__file__).parents[2]
SOAK_STREAMS = 1_600_000
PARTS = 16
SECONDS = int(os.environ.get("FDPASS_FUZZ_SECONDS", "120"))  # for atheris


def test_some_streams():
    assert fuzz(range(8_000)) > 6_000


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_many_streams(part, capsys):
    base, count = random.SystemRandom().getrandbits(48), SOAK_STREAMS // PARTS
    ends = fuzz(range(base, base + count))
    with capsys.disabled():
        print(f"\n{count:,} streams from {base} on, {ends:,} ends of requests")


FAULTS = {
    "the HTTP/2 preface is a request": (
        "is_special",
        lambda head: requests_is_special(head.replace(b"pri ", b"get ")),
    ),
    "a bare line feed is nothing odd": (
        "_is_odd",
        lambda head: requests_is_odd(re.sub(rb"(?<!\r)\n", b"\r\n", head)),
    ),
    "a WebSocket is nothing odd": ("_WEBSOCKET", re.compile(rb"\nupgrade:[^\n]*h2c")),
    "a length is hexadecimal": ("_SIZE", re.compile(rb"([0-9]{1,15})[ \t]*[xX]?[0-9a-fA-F]*(?:;[^\r\n]*)?\r\n")),
}
requests_is_special = requests.is_special
requests_is_odd = requests._is_odd


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name, monkeypatch):
    monkeypatch.setattr(requests, *FAULTS[name])
    with pytest.raises(Disagreement):
        fuzz(range(20_000))


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("target", ["border_target", "known_target"])
def test_what_atheris_finds(target, tmp_path, capsys):
    """Guided by coverage; what it finds is in its output, and the input in the folder that pytest names."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed")
    done = subprocess.run(
        [
            sys.executable,
            *("-m", f"tests.property.{target}", str(tmp_path)),
            *(f"-max_total_time={SECONDS}", "-max_len=1024", "-print_final_stats=1"),
            f"-artifact_prefix={tmp_path}/",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=SECONDS + 240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    with capsys.disabled():
        print("\natheris:", *re.findall(r"stat::number_of_executed_units: *(\d+)", done.stdout), "streams")
