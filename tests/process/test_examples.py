"""Every example runs without an error or a warning."""

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
def test_an_example_runs_without_warnings_and_prints_something(example):
    done = run(example)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_numpy_share_reads_the_array_in_shared_memory():
    done = run(next(path for path in EXAMPLES if path.name == "numpy_share.py"))
    assert "add up to 499,999,500,000" in done.stdout
    assert "/memfd:numbers" in done.stdout
    assert "read-only" in done.stdout
