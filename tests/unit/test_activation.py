"""Socket activation: what was passed is owned and private from then on, and nonsense is told."""

import json
import os
import subprocess
import sys

import pytest

from fdpass import Fd, NotActivated, inherited

CHILD = """
import json, os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
import fdpass
try:
    found = fdpass.inherited()
except fdpass.NotActivated as error:
    print(json.dumps({"error": str(error), "left": [n for n in os.environ if n.startswith("LISTEN_")],
                      "inheritable": os.get_inheritable(3)}))
    sys.exit()
print(json.dumps({
    "names": [item.name for item in found],
    "read": [os.read(item.fd.fileno(), 9).decode() for item in found],
    "numbers": [item.fd.fileno() for item in found],
    "inheritable": [os.get_inheritable(item.fd.fileno()) for item in found],
    "left": [name for name in os.environ if name.startswith("LISTEN_")],
    "again": fdpass.inherited(),
}))
for item in found:
    item.fd.close()
"""


def activated(texts, **environment):
    """What a child with these pipes from 3 on, as a service manager would start it, finds."""
    readers = []
    for text in texts:
        reader, writer = os.pipe()
        with Fd(writer):
            os.write(writer, text)
        readers.append(Fd(reader))

    # A shell can number descriptors as it likes; preexec_fn and pass_fds cannot both.
    moves = " ".join(f"{to}<&{fd.fileno()}" for to, fd in enumerate(readers, 3))
    command = ["bash", "-c", f'exec {moves}; exec "$@"', "bash", sys.executable, "-c", CHILD]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **environment},
            pass_fds=[fd.fileno() for fd in readers],
            stdout=subprocess.PIPE,
            check=True,
            timeout=60,
        )
    finally:
        for fd in readers:
            fd.close()
    return json.loads(done.stdout)


def test_descriptors_come_in_order_with_their_names():
    found = activated([b"one", b"two"], LISTEN_FDS="2", LISTEN_FDNAMES="http:metrics")
    assert found["names"] == ["http", "metrics"]
    assert found["read"] == ["one", "two"]
    assert found["numbers"] == [3, 4]


def test_without_names_they_are_unknown():
    assert activated([b"one", b"two"], LISTEN_FDS="2")["names"] == ["unknown", "unknown"]


def test_no_child_of_ours_gets_them():
    found = activated([b"one"], LISTEN_FDS="1", LISTEN_FDNAMES="x")
    assert found["inheritable"] == [False]
    assert found["left"] == []
    assert found["again"] == []


def test_a_descriptor_that_is_not_open_is_told_and_the_others_are_left_alone():
    found = activated([b"one"], LISTEN_FDS="500")
    assert "is not open" in found["error"]
    assert found["inheritable"] is True
    assert found["left"] == []


def test_names_that_do_not_match_the_count_are_told():
    found = activated([b"one"], LISTEN_FDS="1", LISTEN_FDNAMES="a:b")
    assert "2 name(s)" in found["error"]
    assert found["inheritable"] is True


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LISTEN_FDS": "2"},
        {"LISTEN_PID": "self"},
        {"LISTEN_PID": "1", "LISTEN_FDS": "2"},
        {"LISTEN_PID": "self", "LISTEN_FDS": "0"},
    ],
    ids=["no variables", "no pid", "no count", "another process", "none"],
)
def test_nothing_for_us_is_an_empty_list(environment):
    variables = {name: str(os.getpid()) if text == "self" else text for name, text in environment.items()}
    assert inherited(variables) == []
    assert variables == {}


@pytest.mark.parametrize("text", ["", "x", "-1", "+1", " 1", "1_0", "1.0", "\u0663", "9" * 5000])
@pytest.mark.parametrize("name", ["LISTEN_PID", "LISTEN_FDS"])
def test_what_is_no_number_is_nonsense(name, text):
    variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", name: text, "OTHER": "stays"}
    with pytest.raises(NotActivated, match=name):
        inherited(variables)
    assert variables == {"OTHER": "stays"}


def test_an_absurd_count_takes_no_memory():
    with pytest.raises(NotActivated, match="is not open"):
        inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "9999999999"})
