"""`clone` needs a process with one thread. One of pytest-xdist has more: the tests then run in another one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("test_clone.py")


@pytest.mark.skipif(len(os.listdir("/proc/self/task")) == 1, reason="the tests run in this process")
def test_in_a_process_with_one_thread():
    root = FILE.parents[4]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", str(FILE)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout
    assert "one thread can be cloned" not in done.stdout
