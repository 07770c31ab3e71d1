"""`_proc`: the kernel's tables in /proc, from samples and of this process."""

import os
import select
import socket
import stat
import subprocess
import sys
import tempfile

import pytest

from fdpass import _proc as proc
from fdpass._kinds import kind_of
from fdpass._sock_diag import UnixSocket
from fdpass.errors import NoSuchProcess, NotPermitted

TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0
   1: 0100007F:C350 0101A8C0:0050 01 00000000:00000000 02:00000A6D 00000000  1000        0 4243 2 0 20 4 30 10 -1
   2: 0100007F:C351 0101A8C0:0050 FF 00000000:00000000 02:00000A6D 00000000  1000        0 4244 2 0 20 4 30 10 -1
"""
UNIX = """Num       RefCount Protocol Flags    Type St Inode Path
00000000aaaaaaaa: 00000002 00000000 00010000 0001 01  7001 /run/a socket
00000000bbbbbbbb: 00000003 00000000 00000000 0005 03  7002
00000000cccccccc: 00000002 00000000 00000000 0002 01  7003 @abstract
00000000dddddddd: 00000002 00000000 00010000 0001 01  7004 /run/two
lines
"""
little = pytest.mark.skipif(sys.byteorder != "little", reason="the samples are from a little-endian kernel")


@little
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0100007F:1F90", "127.0.0.1:8080"),
        ("00000000:0050", "0.0.0.0:80"),
        ("00000000:0000", None),
        ("00000000000000000000000001000000:0050", "[::1]:80"),
        ("B80D01200000000067452301EFCDAB89:01BB", "[2001:db8::123:4567:89ab:cdef]:443"),
        ("0000000000000000FFFF00000100007F:0001", "[::ffff:127.0.0.1]:1"),
        ("00000000000000000000000000000000:0000", None),
    ],
)
def test_an_address_of_the_kernel_is_parsed(text, expected):
    """An address of zeros with port 0 is None."""
    assert proc.address(text) == expected


@little
def test_a_tcp_table_is_parsed():
    """The inode is the key of each row; an unknown state stays as the kernel wrote it."""
    found = proc.inet_sockets(TCP, "tcp")
    assert found == {
        4242: proc.Endpoint("tcp", "stream", "listening", "127.0.0.1:8080", None),
        4243: proc.Endpoint("tcp", "stream", "established", "127.0.0.1:50000", "192.168.1.1:80"),
        4244: proc.Endpoint("tcp", "stream", "FF", "127.0.0.1:50001", "192.168.1.1:80"),
    }


@little
def test_udp_states_are_not_tcp_states():
    """07 is "closed" for TCP, and "unconnected" for UDP."""
    row = TCP.split("\n")[1].replace(" 0A ", " 07 ")
    assert proc.inet_sockets(f"heading\n{row}\n", "udp")[4242].state == "unconnected"
    assert proc.inet_sockets(f"heading\n{row}\n", "tcp")[4242].state == "closed"


def test_a_unix_table_is_parsed():
    """Paths can have spaces and newlines; sockets without a name have no path."""
    assert proc.unix_sockets(UNIX) == {
        7001: proc.Endpoint("unix", "stream", "listening", "/run/a socket", None),
        7002: proc.Endpoint("unix", "seqpacket", "connected", None, None),
        7003: proc.Endpoint("unix", "dgram", "unconnected", "@abstract", None),
        7004: proc.Endpoint("unix", "stream", "listening", "/run/two", None),
    }


@pytest.mark.parametrize("first", [True, False])
def test_a_row_that_a_name_imitates_is_not_believed(first):
    """Its inode number has two rows, and the table does not say which one is genuine. Nonsense is skipped."""
    genuine = "00000000aaaaaaaa: 00000002 00000000 00010000 0001 01  7001 /run/genuine\n"
    imitated = "00000000bbbbbbbb: 00000002 00000000 00000000 0001 01  7002 @x\n" + genuine.replace(
        "genuine", "secret"
    )
    rows = [genuine, imitated, "0 0 0 zz 0 0 1 q\n"]
    found = proc.unix_sockets("heading\n" + "".join(rows if first else reversed(rows)))
    assert found[7001] == proc.Endpoint("unix", "?", proc.AMBIGUOUS, None, None)
    assert found[7002] == proc.Endpoint("unix", "stream", "unconnected", "@x", None)
    assert set(found) == {7001, 7002}


@pytest.mark.parametrize(
    ("name", "address"),
    [(b"\0a\nb", "@a\nb"), (b"/run/s\0", "/run/s"), (b"@a\0", "./@a"), (b"\0", "@"), (None, None)],
)
def test_the_name_of_a_unix_socket_is_an_address(name, address):
    """A path that starts with @ is not shown as an abstract address."""
    found = proc.unix_endpoints([UnixSocket(7, 1, 10, name, None), UnixSocket(8, 1, 1, None, 7)])
    assert found == {
        7: proc.Endpoint("unix", "stream", "listening", address, None),
        8: proc.Endpoint("unix", "stream", "connected", None, address),
    }


@pytest.mark.parametrize("refusal", [PermissionError(1, "refused"), FileNotFoundError(2, "not built in")])
def test_without_sock_diag_the_table_is_read(monkeypatch, tmp_path, refusal):
    def refuse():
        raise refusal

    monkeypatch.setattr(proc._sock_diag, "unix_sockets", refuse)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        assert own_descriptor(sock).endpoint == proc.Endpoint(
            "unix", "stream", "unconnected", str(tmp_path / "s"), None
        )


def test_an_empty_table_has_no_sockets():
    """A table can be a heading alone, or empty text."""
    assert proc.inet_sockets("", "tcp") == proc.unix_sockets("heading\n") == {}


def test_fields_of_fdinfo_are_parsed():
    """Fields are separated by tabs or spaces; lines without a colon are skipped."""
    assert proc.fdinfo("pos:\t12\nflags:\t02100000\nscm_fds: 3\n\nnonsense\n") == {
        "pos": "12",
        "flags": "02100000",
        "scm_fds": "3",
    }


@pytest.mark.parametrize(
    ("mode", "target", "kind"),
    [
        (stat.S_IFREG, "/var/log/x (deleted)", "file"),
        (stat.S_IFLNK, "/some/link", "symlink"),
        (stat.S_IFBLK, "/dev/vda", "block"),
        (0, "anon_inode:[eventfd]", "eventfd"),
        (0, "anon_inode:[io_uring]", "other"),
        (stat.S_IFREG, "pidfd:[77]", "pidfd"),
    ],
)
def test_kind_is_told_by_link_and_mode(mode, target, kind):
    assert proc.kind_from(os.stat_result([mode, 0, 0, 1, *[0] * 6]), target) == kind


@pytest.fixture
def one_of_each_kind(tmp_path):
    """One descriptor of every kind that can be opened without privileges."""
    reading, writing = os.pipe()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener = socket.create_server(("127.0.0.1", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
    epoll = select.epoll()
    (tmp_path / "link").symlink_to(tmp_path)
    opened = [
        os.open(tmp_path, os.O_RDONLY),
        os.open(tmp_path / "link", os.O_PATH | os.O_NOFOLLOW),
        os.open("/dev/null", os.O_WRONLY),
        os.memfd_create("zoo"),
        os.eventfd(0),
        os.pidfd_open(os.getpid()),
    ]
    with tempfile.TemporaryFile() as file:
        held = [reading, writing, ours, theirs, listener, udp, netlink, epoll, file, *opened]
        yield [one if isinstance(one, int) else one.fileno() for one in held]
        for one in (reading, writing, *opened):
            os.close(one)
        for one in (ours, theirs, listener, udp, netlink, epoll):
            one.close()


def test_kinds_are_the_same_as_those_of_fd_kind(one_of_each_kind):
    """`descriptors` of this process and `Fd.kind` use the same words."""
    seen = {one.number: one.kind for one in proc.descriptors(os.getpid())}
    assert [seen[number] for number in one_of_each_kind] == [kind_of(number) for number in one_of_each_kind]


def test_exactly_the_open_descriptors_are_listed_in_order(one_of_each_kind):
    """The descriptors that `descriptors` itself opens are not listed."""
    numbers = [one.number for one in proc.descriptors(os.getpid())]
    assert numbers == sorted(numbers)
    assert set(one_of_each_kind) <= set(numbers)
    for number in numbers:
        os.fstat(number)


def test_access_position_and_close_on_exec_are_read(tmp_path):
    path = tmp_path / "file"
    path.write_text("0123456789")
    fds = [os.open(path, flags) for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_PATH)]
    os.read(fds[0], 4)
    os.set_inheritable(fds[1], True)
    found = {one.number: one for one in proc.descriptors(os.getpid())}
    seen = [found[fd] for fd in fds]
    for fd in fds:
        os.close(fd)
    assert [one.access for one in seen] == ["r", "w", "rw", "path"]
    assert [one.position for one in seen] == [4, 0, 0, 0]
    assert [one.close_on_exec for one in seen] == [True, False, True, True]
    assert {one.target for one in seen} == {str(path)}


def own_descriptor(sock):
    return next(one for one in proc.descriptors(os.getpid()) if one.number == sock.fileno())


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_tcp_sockets_have_both_addresses(family, host):
    """Both ends of a connection, and its listener."""
    try:
        listener = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"no {host} here")
    with listener, socket.create_connection(listener.getsockname()[:2]) as client, listener.accept()[0] as server:
        written = f"[{host}]" if family == socket.AF_INET6 else host
        local = f"{written}:{listener.getsockname()[1]}"
        remote = f"{written}:{client.getsockname()[1]}"
        protocol = "tcp6" if family == socket.AF_INET6 else "tcp"
        assert own_descriptor(listener).endpoint == proc.Endpoint(protocol, "stream", "listening", local, None)
        assert own_descriptor(client).endpoint == proc.Endpoint(protocol, "stream", "established", remote, local)
        assert own_descriptor(server).endpoint == proc.Endpoint(protocol, "stream", "established", local, remote)


def test_descriptors_in_flight_are_counted_at_the_receiver(tmp_path):
    """A descriptor counts from its send until it is received."""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with sender, receiver:
        socket.send_fds(sender, [b"x"], [0, 1, 2])
        assert (own_descriptor(sender).in_flight, own_descriptor(receiver).in_flight) == (0, 3)
        for fd in socket.recv_fds(receiver, 1, 3)[1]:
            os.close(fd)
        assert own_descriptor(receiver).in_flight == 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert own_descriptor(listener).in_flight is None


def test_a_process_that_has_ended_is_an_error():
    """The error is NoSuchProcess, and names the number."""
    child = subprocess.Popen(["true"])
    child.wait()
    for ask in (proc.name, proc.descriptors):
        with pytest.raises(NoSuchProcess, match=str(child.pid)):
            ask(child.pid)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_users_process_is_not_permitted():
    """The error is NotPermitted, and names the process."""
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            proc.descriptors(1)
        except NotPermitted as error:
            os._exit(0 if "process 1: it belongs to user root" in error.strerror else 3)
        os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_name_is_the_short_name_of_the_process():
    with open("/proc/self/comm") as file:
        assert proc.name(os.getpid()) == file.read().strip()
