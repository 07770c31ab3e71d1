"""Listeners: bound, adopted, removed; those that fail leave nothing open."""

import errno
import os
import socket
import stat

import pytest

from fdpass import Fd
from fdpass._activation import Inherited
from fdpass.errors import AddressInUse, CallFailed, ConfigError, NotPermitted
from fdpass.serve.dispatcher.listeners import listen_at, name_of, parse
from fdpass.testing import call_fails, same_file

LOCAL = "127.0.0.1:0"


def close(listeners):
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("localhost:0", ("localhost", 0)),
        (":8000", ("0.0.0.0", 8000)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        ("[::ffff:192.0.2.1]:1", ("::ffff:192.0.2.1", 1)),
    ],
)
def test_an_address_is_split_into_host_and_port(bind, expected):
    assert parse(bind) == expected


@pytest.mark.parametrize(
    "bind",
    ["", "host", "80", "host:", "host:x", "host:65536", "host:-1", "::1:80", "[::1]", "[]:80", "a/b:80", "h:٣"],
)
def test_a_malformed_address_is_refused_with_the_right_form(bind):
    with pytest.raises(ConfigError, match=r"write HOST:PORT, \[::1\]:PORT, unix:PATH or fd://N"):
        parse(bind)
    with pytest.raises(ConfigError):
        listen_at([bind], 1)


def test_it_listens_at_a_port_without_blocking():
    (listening,) = listeners = listen_at([LOCAL], 5)
    host, port = listening.sock.getsockname()
    assert listening.name == name_of(listening.sock) == f"{host}:{port}"
    assert not listening.sock.getblocking()
    assert not listening.sock.get_inheritable()
    assert listening.sock.proto == socket.IPPROTO_TCP
    with pytest.raises(BlockingIOError):
        listening.sock.accept()
    with socket.create_connection((host, port), 10):
        listening.sock.accept()[0].close()
    close(listeners)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port), 10)


@pytest.mark.parametrize("adopted", [False, True])
def test_connections_inherit_what_the_server_needs_of_them(adopted):
    """Small writes are not held back, and urgent bytes stand among the others."""
    with socket.create_server(("127.0.0.1", 0)) as given:
        bind = f"fd://{os.dup(given.fileno())}" if adopted else LOCAL
        (listening,) = listeners = listen_at([bind], 5)
        with socket.create_connection(listening.sock.getsockname(), 10):
            listening.sock.setblocking(True)
            connection, _ = listening.sock.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE)
        close(listeners)


def test_a_port_with_connections_in_time_wait_can_be_bound_again():
    (listening,) = listen_at([LOCAL], 5)
    client = socket.create_connection(listening.sock.getsockname(), 10)
    server, _ = listening.sock.accept()
    server.close()  # the end that closes first is in TIME_WAIT
    client.recv(1)
    client.close()
    listening.close()
    close(listen_at([listening.name], 5))


def test_an_ipv6_address_can_be_bound():
    try:
        (listening,) = listen_at(["[::1]:0"], 5)
    except CallFailed:
        pytest.skip("this machine has no IPv6")
    assert listening.name.startswith("[::1]:")
    assert listening.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    listening.close()


def free_port():
    with socket.create_server(("", 0)) as probe:
        return probe.getsockname()[1]


def listeners_at(*binds, **more):
    try:
        return listen_at(binds, 5, **more)
    except CallFailed:
        pytest.skip("this machine has no IPv6")


def test_every_ipv6_address_is_every_ipv4_address_too():
    (listening,) = listeners = listeners_at("[::]:0")
    with socket.create_connection(("127.0.0.1", listening.sock.getsockname()[1]), 10) as client:
        connection, address = listening.sock.accept()
        connection.close()
        assert address[0] == "::ffff:127.0.0.1"
        assert address[1] == client.getsockname()[1]
    close(listeners)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("host", ["0.0.0.0", "", "127.0.0.1"])
def test_every_ipv6_address_leaves_the_port_to_an_ipv4_listener_of_the_same_server(host, order):
    port = free_port()
    listeners = listeners_at(*[f"[::]:{port}", f"{host}:{port}"][::order])
    for address in (("127.0.0.1", port), ("::1", port)):
        socket.create_connection(address, 10).close()
    families = {each.sock.family: each.sock for each in listeners}
    assert families.keys() == {socket.AF_INET, socket.AF_INET6}
    assert families[socket.AF_INET6].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    close(listeners)


def test_every_ipv6_address_leaves_the_port_to_an_inherited_ipv4_listener():
    with socket.create_server(("127.0.0.1", 0)) as given:
        activated = [Inherited("web", Fd(os.dup(given.fileno())))]
        listeners = listeners_at(f"[::]:{given.getsockname()[1]}", activated=activated)
        assert len(listeners) == 2
        close(listeners)


def test_a_unix_socket_is_open_to_all_users_and_is_removed(tmp_path):
    path = tmp_path / "socket"
    (listening,) = listen_at([f"unix:{path}"], 5)
    assert listening.name == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert not listening.sock.getblocking()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listening.close()
    assert not path.exists()
    listening.close()


def test_the_socket_file_of_another_server_is_not_removed(tmp_path):
    path = tmp_path / "socket"
    (listening,) = listen_at([f"unix:{path}"], 5)
    path.unlink()
    path.touch()
    listening.close()
    assert path.exists()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_closed_listener_refuses_clients_though_a_worker_has_a_duplicate(tmp_path, kind):
    (listening,) = listen_at([LOCAL if kind == "tcp" else f"unix:{tmp_path}/s"], 5)
    address = listening.sock.getsockname()
    with listening.sock.dup():
        if kind == "unix":
            os.link(address, f"{tmp_path}/other")  # `close` removes the first name
            address = f"{tmp_path}/other"
        listening.close()
        with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as client:
            with pytest.raises(ConnectionRefusedError):
                client.connect(address)


def test_a_unix_socket_that_refuses_new_clients_still_has_its_backlog(tmp_path):
    path = tmp_path / "socket"
    (listening,) = listen_at([f"unix:{path}"], 5)
    os.link(path, tmp_path / "other")
    with socket.socket(socket.AF_UNIX) as early, socket.socket(socket.AF_UNIX) as late:
        early.connect(str(path))
        early.sendall(b"early")
        listening.refuse_new()
        assert not path.exists()
        with pytest.raises(ConnectionRefusedError):
            late.connect(str(tmp_path / "other"))
        accepted, _ = listening.sock.accept()
        with accepted:
            assert accepted.recv(10) == b"early"
        with pytest.raises(BlockingIOError):
            listening.sock.accept()
    (other,) = listen_at([f"unix:{path}"], 5)
    listening.close()
    assert path.exists(), "it is the other server's"
    other.close()


def test_a_tcp_listener_keeps_its_backlog_until_it_is_closed():
    (listening,) = listen_at([LOCAL], 5)
    with socket.create_connection(listening.sock.getsockname(), 10):
        listening.refuse_new()
        listening.sock.accept()[0].close()
    listening.close()


def test_an_adopted_listener_stays_open_for_its_giver(tmp_path):
    with socket.socket(socket.AF_UNIX) as given, socket.socket(socket.AF_UNIX) as client:
        given.bind(f"{tmp_path}/s")
        given.listen(5)
        (listening,) = listen_at([f"fd://{os.dup(given.fileno())}"], 5)
        listening.refuse_new()
        listening.close()
        client.connect(f"{tmp_path}/s")


def test_an_abstract_address_can_be_bound():
    (listening,) = listen_at([f"unix:@fdpass-test-{os.getpid()}"], 5)
    assert listening.name == f"unix:@fdpass-test-{os.getpid()}"
    assert listening.file is None
    listening.close()


def test_an_address_in_use_is_refused_with_the_remedy(tmp_path):
    taken = listen_at([LOCAL, f"unix:{tmp_path}/socket"], 5)
    for listening in taken:
        with pytest.raises(AddressInUse, match="another process listens there already") as caught:
            listen_at([LOCAL, listening.name], 5)
        assert listening.name.removeprefix("unix:") in str(caught.value)
    assert (tmp_path / "socket").exists()
    close(taken)


def test_a_host_that_does_not_exist_is_named():
    """The name is malformed, so that no resolver is asked."""
    with pytest.raises(ConfigError, match=r"--bind '300\.1\.2\.3\.:0': this host has no address"):
        with call_fails(socket, "getaddrinfo", errno.EIO):
            listen_at(["300.1.2.3.:0"], 5)


def test_an_address_of_another_machine_is_named():
    with pytest.raises(CallFailed, match=r"cannot listen at 192\.0\.2\.1:0"):
        listen_at(["192.0.2.1:0"], 5)


# Adopted


def test_an_inherited_descriptor_is_adopted():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        number = os.dup(sock.fileno())
        os.set_inheritable(number, True)
        (listening,) = listen_at([f"fd://{number}"], 5)
        assert listening.sock.fileno() == number
        assert same_file(listening.sock, sock)
        assert listening.name == name_of(sock)
        assert not listening.sock.get_inheritable()
        assert not listening.sock.getblocking()
        listening.close()


def test_an_adopted_unix_socket_keeps_its_file(tmp_path):
    """The program that made the file removes it."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        sock.listen()
        close(listen_at([f"fd://{os.dup(sock.fileno())}"], 5))
    assert (tmp_path / "socket").exists()


@pytest.mark.parametrize("text", ["", "x", "-1", "1 ", "1/2", "1234567890", "٣"])
def test_a_malformed_descriptor_number_is_refused(text):
    with pytest.raises(ConfigError, match="write fd://N, with the number of an open descriptor"):
        listen_at([f"fd://{text}"], 5)


def test_a_number_that_is_not_open_is_named():
    number = os.dup(0)
    os.close(number)
    with pytest.raises(ConfigError, match=f"fd://{number}: .*is not open"):
        listen_at([f"fd://{number}"], 5)


def socket_that_does_not_listen():
    return socket.socket().detach()


def pipe():
    reading, writing = os.pipe()
    os.close(writing)
    return reading


def seqpacket_listener():
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.bind("")
    sock.listen()
    return sock.detach()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (socket_that_does_not_listen, "it is of kind socket, not a socket that listens"),
        (pipe, "it is of kind pipe, not a socket that listens"),
        (seqpacket_listener, "it listens, but not for streams"),
    ],
)
def test_a_descriptor_that_is_no_stream_listener_is_refused_and_closed(make, words):
    """With ``--bind`` and from socket activation; the fixture that looks for leaks finds none."""
    with pytest.raises(ConfigError, match=f"--bind fd://.*{words}"):
        listen_at([f"fd://{make()}"], 5)
    with pytest.raises(ConfigError, match=f"socket activation: {words}"):
        listen_at([LOCAL], 5, [Inherited("web", Fd(make()))])


def test_activated_sockets_come_first():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        listeners = listen_at([LOCAL], 5, [Inherited("web", Fd(os.dup(sock.fileno())))])
        assert len(listeners) == 2
        assert listeners[0].name == name_of(sock)
        close(listeners)


# Leaks


@pytest.mark.parametrize(
    "bad", ["nonsense", "fd://x", "192.0.2.1:0", "unix:", "unix:/nowhere/at/all"], ids=lambda bad: bad
)
def test_an_address_that_fails_closes_the_others_and_removes_their_files(tmp_path, bad):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        given = [Inherited("web", Fd(os.dup(sock.fileno()))) for _ in range(3)]
        with pytest.raises((ConfigError, CallFailed, ValueError)):
            listen_at([LOCAL, f"unix:{tmp_path}/socket", bad], 5, given)
        assert all(each.fd.closed for each in given)
    assert os.listdir(tmp_path) == []


def test_all_inherited_sockets_are_closed_if_one_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        good = [Fd(os.dup(sock.fileno())) for _ in range(2)]
        with pytest.raises(ConfigError):
            listen_at([], 5, [Inherited("a", good[0]), Inherited("b", Fd(pipe())), Inherited("c", good[1])])
        assert all(fd.closed for fd in good)


@pytest.mark.parametrize("call", ["bind", "listen", "setsockopt"])
@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EACCES, NotPermitted), (errno.ENOMEM, CallFailed), (errno.EADDRINUSE, AddressInUse)],
)
def test_a_system_call_that_fails_leaves_nothing_open(tmp_path, monkeypatch, call, number, kind):
    class Failing(socket.socket):
        pass

    def fail(*_):
        raise OSError(number, os.strerror(number))

    setattr(Failing, call, fail)
    first = listen_at([f"unix:{tmp_path}/one"], 5)
    monkeypatch.setattr(socket, "socket", Failing)
    with pytest.raises(kind, match=r"cannot listen at 127\.0\.0\.1:0"):
        listen_at([LOCAL], 5)
    close(first)
