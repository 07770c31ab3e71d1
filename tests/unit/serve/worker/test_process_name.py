"""The name of a worker's process, as ps(1) and top(1) see it."""

import json
import os
import subprocess
import sys

import pytest

CODE = """
import json, sys
from fdpass.serve.worker.process_name import set_name
set_name(sys.argv[1], "fdpass-worker")
print(json.dumps([
    open("/proc/self/cmdline", "rb").read().decode(), open("/proc/self/comm").read(),
    sys.argv[1:], sys.executable, dict(__import__("os").environ)["MARK"],
]))
"""


@pytest.mark.parametrize("name", ["fdpass: worker 3 of shop.main:app", "fdpass: worker 1 of " + "x" * 5000])
def test_a_process_has_the_name_and_loses_nothing_of_its_own(name):
    command = [sys.executable, "-c", CODE, name]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "MARK": "kept"}
    )
    cmdline, comm, argv, executable, mark = json.loads(done.stdout)
    assert cmdline.rstrip("\0") == name
    assert "\0" not in cmdline.rstrip("\0")
    assert comm == "fdpass-worker\n"
    assert (argv, executable, mark) == ([name], sys.executable, "kept")


def test_a_name_without_room_is_cut():
    code = CODE.replace("sys.argv[1], ", '"x" * 9999, ')
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "MARK": ""},
    )
    cmdline = json.loads(done.stdout)[0]
    assert set(cmdline) == {"x", "\0"}


def test_memory_that_does_not_hold_the_arguments_is_left_alone():
    """As under valgrind, whose own arguments are where the kernel says that this program's are."""
    code = "import sys; sys.orig_argv.append('x')\n" + CODE
    command = [sys.executable, "-c", code, "name"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "MARK": ""}
    )
    assert json.loads(done.stdout)[0] == "\0".join([*command, ""])
