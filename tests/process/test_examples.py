"""Every example runs, warns of nothing and says what it promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def run(example):
    return subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        env={**os.environ, "PYTHONWARNINGS": "error"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(example):
    done = run(example)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_the_array_is_read_where_it_was_shared():
    done = run(next(path for path in EXAMPLES if path.name == "numpy_share.py"))
    assert "add up to 499,999,500,000" in done.stdout
    assert "/memfd:numbers" in done.stdout
    assert "read-only" in done.stdout
