"""``fdpass inspect`` of this test process: the table and the JSON."""

import json
import os
import re
import socket
import subprocess
import sys

import pytest

from fdpass import _sock_diag


def inspect(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "fdpass", "inspect", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def held(tmp_path):
    """A listener, a Unix socket with three descriptors in flight, a bound one, and a file with an escape."""
    listener = socket.create_server(("127.0.0.1", 0))
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    socket.send_fds(sender, [b"x"], [0, 1, 2])
    named = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    named.bind(str(tmp_path / "named socket"))
    with listener, sender, receiver, named, open(tmp_path / "red\x1b[31m", "w") as file:
        file.write("12345")
        file.flush()
        yield {"listener": listener, "sender": sender, "receiver": receiver, "named": named, "file": file}


def rows(output):
    """The kinds in order of appearance; and for each number its kind, mode, descriptors in flight, and target."""
    kinds, found = [], {}
    for line in output.splitlines()[2:]:
        kind, number, mode, waiting, what = re.fullmatch(
            r"(\w*) +(\d+)  (r|w|rw|path|\?) +(\d*) +(\S.*)", line
        ).groups()
        if kind:
            kinds.append(kind)
        found[int(number)] = (kinds[-1], mode, waiting, what)
    return kinds, found


def test_the_table_shows_kinds_addresses_and_descriptors_in_flight(held, tmp_path):
    """Rows are sorted by kind, and control characters are escaped."""
    done = inspect(os.getpid())
    assert (done.returncode, done.stderr) == (0, "")
    title, heading = done.stdout.splitlines()[:2]
    assert re.fullmatch(rf"process {os.getpid()} \(.+\): \d+ descriptors, 3 in flight", title)
    assert heading.split() == ["KIND", "FD", "MODE", "IN", "FLIGHT", "WHAT"]
    kinds, found = rows(done.stdout)
    assert len(kinds) == len(set(kinds))
    assert kinds[:3] == ["listener", "socket", "file"]
    shown = {name: found[one.fileno()] for name, one in held.items()}
    port = held["listener"].getsockname()[1]
    assert shown == {
        "listener": ("listener", "rw", "", f"tcp 127.0.0.1:{port} listening"),
        "sender": ("socket", "rw", "0", "unix seqpacket (unnamed) connected"),
        "receiver": ("socket", "rw", "3", "unix seqpacket (unnamed) connected"),
        "named": ("socket", "rw", "0", f"unix dgram {tmp_path}/named socket unconnected"),
        "file": ("file", "w", "", f"{tmp_path}/red\\x1b[31m  (at byte 5)"),
    }


def test_the_columns_of_the_table_are_aligned(held):
    """The last column starts below its heading."""
    lines = inspect(os.getpid()).stdout.splitlines()[1:]
    column = lines[0].index("WHAT")
    assert {line[column - 2 : column] for line in lines} == {"  "}
    assert " " not in {line[column] for line in lines}


def test_json_has_all_fields_of_each_descriptor(held, tmp_path):
    done = inspect(os.getpid(), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert set(told) == {"pid", "name", "in_flight", "descriptors"}
    assert (told["pid"], told["in_flight"]) == (os.getpid(), 3)
    found = {one.pop("number"): one for one in told["descriptors"]}
    assert found[held["receiver"].fileno()] == {
        "kind": "socket",
        "access": "rw",
        "target": f"socket:[{os.fstat(held['receiver'].fileno()).st_ino}]",
        "position": 0,
        "close_on_exec": True,
        "endpoint": {"protocol": "unix", "type": "seqpacket", "state": "connected", "local": None, "remote": None},
        "in_flight": 3,
    }
    assert found[held["file"].fileno()] == {
        "kind": "file",
        "access": "w",
        "target": f"{tmp_path}/red\x1b[31m",
        "position": 5,
        "close_on_exec": True,
        "endpoint": None,
        "in_flight": None,
    }


def test_a_tcp_connection_is_shown_with_both_addresses(held):
    with (
        socket.create_connection(held["listener"].getsockname()) as client,
        held["listener"].accept()[0] as server,
    ):
        _, found = rows(inspect(os.getpid()).stdout)
        ours, theirs = (f"127.0.0.1:{one.getsockname()[1]}" for one in (client, server))
        assert found[client.fileno()][3] == f"tcp {ours} -> {theirs} established"
        assert found[server.fileno()][3] == f"tcp {theirs} -> {ours} established"


def test_a_process_that_has_ended_is_an_error_of_one_sentence():
    child = subprocess.Popen(["true"])
    child.wait()
    done = inspect(child.pid)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"fdpass inspect: no process has the number {child.pid}")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def sock_diag():
    """Skip where the kernel or a sandbox refuses sock_diag."""
    try:
        _sock_diag.unix_sockets()
    except OSError as error:
        pytest.skip(f"no sock_diag here: {error}")


@pytest.mark.usefixtures("sock_diag")
def test_names_of_sockets_cannot_imitate_rows_of_other_sockets():
    """Abstract names can have newlines: this one contains the row of another socket in /proc/net/unix."""
    prefix = f"\0fdpass-test-{os.getpid()}\n".encode()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as imitator:
        listener.bind(prefix + b"\x1b[31m")
        listener.listen()
        inode = os.fstat(listener.fileno()).st_ino
        row = f"0000000000000000: 00000002 00000000 00010000 0001 01 {inode} /run/secret.sock"
        imitator.bind((prefix + row.encode())[:107])
        done = inspect(os.getpid())
    assert (done.returncode, done.stderr) == (0, "")
    start = f"unix stream @fdpass-test-{os.getpid()}\\n"
    shown = {kind: what for kind, _, _, what in rows(done.stdout)[1].values() if what.startswith(start)}
    assert shown == {
        "listener": f"{start}\\x1b[31m listening",
        "socket": f"{start}{row} unconnected"[: len(start) + len(row) + 12],
    }


@pytest.mark.usefixtures("sock_diag")
def test_a_unix_connection_is_shown_with_the_address_of_its_listener(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.connect(path)
        with listener.accept()[0] as server:
            _, found = rows(inspect(os.getpid()).stdout)
            assert found[client.fileno()][3] == f"unix stream (unnamed) -> {path} connected"
            assert found[server.fileno()][3] == f"unix stream {path} connected"
