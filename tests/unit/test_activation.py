"""`inherited`: socket activation gives owned descriptors that children do not inherit; mistakes are errors."""

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


def started_by_a_manager(texts, **environment):
    """Start a child with these texts in pipes from number 3 on: what `inherited` returns there."""
    readers = []
    for text in texts:
        reader, writer = os.pipe()
        with Fd(writer):
            os.write(writer, text)
        readers.append(Fd(reader))

    # A shell can give descriptors any number; subprocess cannot, for pass_fds keeps the numbers.
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


def test_descriptors_are_returned_in_order_with_their_names():
    found = started_by_a_manager([b"one", b"two"], LISTEN_FDS="2", LISTEN_FDNAMES="http:metrics")
    assert found["names"] == ["http", "metrics"]
    assert found["read"] == ["one", "two"]
    assert found["numbers"] == [3, 4]


def test_descriptors_without_names_are_called_unknown():
    assert started_by_a_manager([b"one", b"two"], LISTEN_FDS="2")["names"] == ["unknown", "unknown"]


def test_child_processes_inherit_neither_descriptors_nor_variables():
    found = started_by_a_manager([b"one"], LISTEN_FDS="1", LISTEN_FDNAMES="x")
    assert found["inheritable"] == [False]
    assert found["left"] == []
    assert found["again"] == []


def test_a_number_that_is_not_open_is_an_error_that_touches_no_descriptor():
    found = started_by_a_manager([b"one"], LISTEN_FDS="500")
    assert "is not open" in found["error"]
    assert found["inheritable"] is True
    assert found["left"] == []


def test_more_names_than_descriptors_are_an_error():
    found = started_by_a_manager([b"one"], LISTEN_FDS="1", LISTEN_FDNAMES="a:b")
    assert "2 names" in found["error"]
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
def test_variables_that_are_missing_or_for_another_process_give_an_empty_list(environment):
    variables = {name: str(os.getpid()) if text == "self" else text for name, text in environment.items()}
    assert inherited(variables) == []
    assert variables == {}


@pytest.mark.parametrize("text", ["", "x", "-1", "+1", " 1", "1_0", "1.0", "\u0663", "9" * 5000])
@pytest.mark.parametrize("name", ["LISTEN_PID", "LISTEN_FDS", "LISTEN_PIDFDID"])
def test_a_variable_that_is_not_a_number_is_an_error_that_names_it(name, text):
    variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", name: text, "OTHER": "stays"}
    with pytest.raises(NotActivated, match=name):
        inherited(variables)
    assert variables == {"OTHER": "stays"}


def pidfd_inode():
    """The inode of this process's pidfd, which systemd puts into LISTEN_PIDFDID."""
    with Fd(os.pidfd_open(os.getpid())) as own, Fd(os.eventfd(0)) as event:
        if os.fstat(own.fileno()).st_dev == os.fstat(event.fileno()).st_dev:
            pytest.skip("pidfds have no file system of their own before Linux 6.9")
        return os.fstat(own.fileno()).st_ino


@pytest.mark.parametrize(("difference", "error"), [(0, "is not open"), (1, None)], ids=["own", "another process"])
def test_listen_pidfdid_names_the_process_and_is_removed(difference, error):
    """sd_listen_fds(3) of systemd 257: a process that got the number LISTEN_PID later takes nothing."""
    variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "9999999", "OTHER": "stays"}
    variables["LISTEN_PIDFDID"] = str(pidfd_inode() + difference)
    if error is None:
        assert inherited(variables) == []
    else:
        with pytest.raises(NotActivated, match=error):
            inherited(variables)
    assert variables == {"OTHER": "stays"}


def test_listen_pidfdid_is_removed_where_it_stands_alone():
    """A child would otherwise get it from this process."""
    variables = {"LISTEN_PIDFDID": "77"}
    assert inherited(variables) == []
    assert variables == {}


def test_a_count_of_ten_billion_is_an_error_and_takes_no_memory():
    with pytest.raises(NotActivated, match="is not open"):
        inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "9999999999"})
