"""Default paths of control sockets when several servers run, and how a command finds the only one."""

import os
import socket

import pytest

from fdpass.errors import ConfigError
from fdpass.serve.operator import client, servers

TARGETS = servers._targets


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def known(folder, monkeypatch):
    """Statuses by path, of servers that run; their files exist."""
    found = {}

    def status_at(path):
        return found.get(path)

    monkeypatch.setattr(client, "status_at", status_at)
    monkeypatch.setattr(servers, "status_at", status_at)

    def add(name, *listeners, stopping=False):
        path = str(folder / name)
        open(path, "w").close()
        found[path] = {"server": {"app": "a:b", "listeners": [*listeners], "stopping": stopping}}
        return path

    return add


def test_the_first_server_has_the_default_path(folder):
    assert servers.free_path(["127.0.0.1:8000"]) == str(folder / "fdpass.sock")


def test_a_server_with_other_addresses_has_its_address_in_the_path(folder, known):
    known("fdpass.sock", "127.0.0.1:8000")
    for address, name in (
        ("127.0.0.1:8001", "fdpass-127.0.0.1:8001.sock"),
        ("[::1]:8000", "fdpass-:-1:8000.sock"),
        ("unix:/run/app.sock", "fdpass-unix:-run-app.sock.sock"),
    ):
        found = servers.free_path([address])
        assert os.path.dirname(found) == str(folder)
        assert ":" in os.path.basename(found)
        if not address.startswith("["):
            assert os.path.basename(found) == name


def test_a_long_address_has_a_short_path(known, folder):
    known("fdpass.sock", "127.0.0.1:8000")
    first, second = (servers.free_path([f"unix:/run/{'x' * 80}{n}"]) for n in (1, 2))
    assert len(os.fsencode(first)) <= max(107, len(os.fsencode(str(folder))) + 35)
    assert first != second


@pytest.mark.parametrize(("listeners", "stopping"), [(["a:1", "b:2"], False), (["c:3"], True)])
def test_a_successor_or_a_mistake_gets_the_default_path(known, folder, listeners, stopping):
    """There it takes over the socket of a server that stops, or is told that another server has it."""
    known("fdpass.sock", *listeners, stopping=stopping)
    assert servers.free_path(["b:2"]) == str(folder / "fdpass.sock")


def test_a_file_that_a_killed_server_left_is_no_server(folder):
    (folder / "fdpass.sock").touch()
    assert servers.free_path(["a:1"]) == str(folder / "fdpass.sock")


def test_a_command_finds_the_only_server(known, folder):
    (folder / "fdpass.sock").touch()  # left
    (folder / "fdpass-keep.sock").touch()  # no server's
    path = known("fdpass-127.0.0.1:8001.sock", "127.0.0.1:8001")
    assert client.only_path() == path


def test_the_socket_of_fdpass_keep_is_no_servers(folder):
    (folder / "fdpass-keep.sock").touch()
    assert client.only_path() == str(folder / "fdpass.sock")


def test_with_several_servers_a_command_names_them(known):
    first, second = known("fdpass.sock", "127.0.0.1:8000"), known("fdpass-127.0.0.1:8001.sock", "127.0.0.1:8001")
    with pytest.raises(ConfigError) as caught:
        client.only_path()
    assert str(caught.value) == (
        f"several servers run: choose one with --control: {first} (a:b at 127.0.0.1:8000) or "
        f"{second} (a:b at 127.0.0.1:8001)"
    )


@pytest.fixture
def listening(tmp_path):
    """The path of a control socket of this process, at which nobody answers; its backlog takes one client."""
    path = str(tmp_path / "control")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(path)
        sock.listen(0)
        yield path


def test_a_server_whose_backlog_is_full_does_not_answer(listening, monkeypatch):
    monkeypatch.setattr(client, "_PATIENCE", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.connect(listening)
        assert client.status_at(listening) is None


@pytest.fixture
def process(listening, monkeypatch):
    """A stand-in for another process: it has this one's socket, and the name of a main process."""
    monkeypatch.setattr(servers, "_targets", lambda pid: TARGETS(os.getpid()) if pid == 123 else iter(()))
    monkeypatch.setattr(servers, "_name", lambda _: "fdpass-keeper\n")
    return 123


SERVING, STOPPING, OTHERS = (
    {"server": {"pid": pid, "stopping": stopping}} for pid, stopping in ((123, False), (123, True), (124, False))
)


@pytest.mark.parametrize(
    ("status", "serves"), [(SERVING, True), (STOPPING, False), (OTHERS, False), (None, True)], ids=str
)
def test_a_server_serves_unless_it_says_that_it_stops(process, monkeypatch, status, serves):
    """One that listens and does not answer may be suspended, or have just begun."""
    monkeypatch.setattr(servers, "status_at", lambda _: status)
    assert servers.is_serving(process) is serves


def test_a_server_that_closes_its_control_socket_instead_of_an_answer_has_stopped(process, monkeypatch):
    def status_at(_):
        monkeypatch.setattr(servers, "_targets", lambda _: iter(()))

    monkeypatch.setattr(servers, "status_at", status_at)
    assert not servers.is_serving(process)


def test_a_server_whose_control_socket_we_have_taken_is_not_asked(process, monkeypatch):
    monkeypatch.setattr(servers, "_targets", lambda _: TARGETS(os.getpid()))
    monkeypatch.setattr(servers, "status_at", lambda _: pytest.fail("it is asked"))
    assert not servers.is_serving(process)


def test_a_process_that_is_no_server_is_not_asked(process, monkeypatch):
    monkeypatch.setattr(servers, "_name", lambda _: "udevd\n")
    monkeypatch.setattr(servers, "status_at", lambda _: pytest.fail("it is asked"))
    assert not servers.is_serving(process)
