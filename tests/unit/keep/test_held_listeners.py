"""The listeners that the program gets at each start."""

import contextlib
import os
import socket
import stat

import pytest

from fdpass import Fd, Inherited
from fdpass._keep.held_listeners import HeldListeners, address_of
from fdpass.errors import AddressInUse, ConfigError, InvalidMessage


@contextlib.contextmanager
def held(*addresses, inherited=()):
    with contextlib.closing(HeldListeners(addresses, inherited)) as listeners:
        yield listeners.all


@pytest.mark.parametrize(
    ("address", "name", "start"),
    [
        ("127.0.0.1:0", "listener", "127.0.0.1:"),
        ("web=127.0.0.1:0", "web", "127.0.0.1:"),
        ("a b=[::1]:0", "a b", "[::1]:"),
        ("=:0", "", "0.0.0.0:"),
        ("unix:./s", "listener", "unix:./s"),
        ("s=unix:./a=b", "s", "unix:./a=b"),
        ("unix:@fdpass-test-keep", "listener", "unix:@fdpass-test-keep"),
    ],
)
def test_it_listens_at_an_address_with_a_name(tmp_path, monkeypatch, address, name, start):
    monkeypatch.chdir(tmp_path)
    with held(address) as found:
        assert [(each.name, each.fd.kind) for each in found] == [(name, "listener")]
        assert found[0].address.startswith(start)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["", "80", "web=", "web=host", "a:b=1:1", "web=unix"])
def test_a_malformed_address_is_refused(address):
    with pytest.raises(ConfigError, match=r"--listen .*write \[NAME=\]HOST:PORT"), held(address):
        pass


@pytest.mark.parametrize("name", ["n\n", "x" * 256, "\x7f"])
def test_a_name_that_is_not_valid_is_refused(name):
    with pytest.raises(ConfigError, match="a name has at most 255 characters"), held(f"{name}=127.0.0.1:0"):
        pass


def test_a_host_that_cannot_be_a_name_is_refused():
    with pytest.raises(ConfigError, match="this is no name of a host"), held("x" * 64 + ".example:0"):
        pass


def test_one_that_fails_leaves_nothing_open(tmp_path):
    with held("127.0.0.1:0") as found, pytest.raises(AddressInUse, match="choose another --listen"):
        HeldListeners([f"unix:{tmp_path}/s", found[0].address])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidMessage, match="at most 107"):
        HeldListeners(["unix:/" + "x" * 200])


def test_every_user_may_connect_to_a_socket_file(tmp_path):
    with held(f"unix:{tmp_path}/s"):
        assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o666


def test_a_host_with_two_families_gets_two_listeners(monkeypatch):
    """Both have the name."""
    answers = [(family, 1, 6, "", address) for family, address in [(2, ("127.0.0.1", 0)), (10, ("::1", 0, 0, 0))]]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    answers = [(family, kind, proto, name, (address[0], port, *address[2:])) for family, kind, proto, name, address in answers]  # fmt: skip  # noqa: E501
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    with held(f"web=localhost:{port}") as found:
        assert [(each.name, each.address) for each in found] == [
            *(("web", f"127.0.0.1:{port}"), ("web", f"[::1]:{port}")),
        ]


def test_what_was_inherited_comes_first_whatever_it_is():
    reading, writing = os.pipe()
    os.close(writing)
    with held("own=127.0.0.1:0", inherited=[Inherited("outer", Fd(reading))]) as found:
        assert [(each.name, each.address[:3]) for each in found] == [("outer", ""), ("own", "127")]


def test_non_blocking_listeners_are_made_to_block():
    with contextlib.closing(HeldListeners(["127.0.0.1:0"])) as listeners:
        number = listeners.all[0].fd.fileno()
        assert not os.get_blocking(number)
        listeners.set_blocking()
        assert os.get_blocking(number)


def test_the_address_of_a_connection_has_its_peer():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        with Fd(os.dup(client.fileno())) as fd:
            own, peer = client.getsockname()[1], server.getsockname()[1]
            assert address_of(fd) == f"127.0.0.1:{own} -> 127.0.0.1:{peer}"
    ours, theirs = socket.socketpair()
    with ours, theirs, Fd(os.dup(ours.fileno())) as fd:
        assert address_of(fd) == "unix: -> unix:"
