"""proc.py: the kernel's tables, from samples and from this process itself."""

import os
import select
import socket
import stat
import subprocess
import sys
import tempfile

import pytest

from fdpass import _proc as proc
from fdpass._fd import kind_of
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
    ("text", "said"),
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
def test_address(text, said):
    """Hexadecimal words of the kernel become an address; one that is not there is None."""
    assert proc.address(text) == said


@little
def test_inet_table():
    """Each row is found by its inode; a state that is not known is shown as it is."""
    found = proc.inet_sockets(TCP, "tcp")
    assert found == {
        4242: proc.Endpoint("tcp", "stream", "listening", "127.0.0.1:8080", None),
        4243: proc.Endpoint("tcp", "stream", "established", "127.0.0.1:50000", "192.168.1.1:80"),
        4244: proc.Endpoint("tcp", "stream", "FF", "127.0.0.1:50001", "192.168.1.1:80"),
    }


@little
def test_udp_states_are_not_tcp_states():
    """07 is "closed" for TCP, and an ordinary unconnected socket for UDP."""
    row = TCP.split("\n")[1].replace(" 0A ", " 07 ")
    assert proc.inet_sockets(f"heading\n{row}\n", "udp")[4242].state == "unconnected"
    assert proc.inet_sockets(f"heading\n{row}\n", "tcp")[4242].state == "closed"


def test_unix_table():
    """Paths may have spaces; unnamed sockets have none; the tail of a path with a newline is no row."""
    assert proc.unix_sockets(UNIX) == {
        7001: proc.Endpoint("unix", "stream", "listening", "/run/a socket", None),
        7002: proc.Endpoint("unix", "seqpacket", "connected", None, None),
        7003: proc.Endpoint("unix", "dgram", "unconnected", "@abstract", None),
        7004: proc.Endpoint("unix", "stream", "listening", "/run/two", None),
    }


def test_empty_tables():
    """A heading alone, or nothing at all, is an empty table."""
    assert proc.inet_sockets("", "tcp") == proc.unix_sockets("heading\n") == {}


def test_fdinfo():
    """Fields with tabs and spaces; lines without a colon are passed over."""
    assert proc.fdinfo("pos:\t12\nflags:\t02100000\nscm_fds: 3\n\nnonsense\n") == {
        "pos": "12",
        "flags": "02100000",
        "scm_fds": "3",
    }


@pytest.mark.parametrize(
    ("mode", "target", "kind"),
    [
        (stat.S_IFREG, "/memfd:x (deleted)", "memfd"),
        (stat.S_IFREG, "/var/log/x (deleted)", "file"),
        (stat.S_IFLNK, "/some/link", "symlink"),
        (stat.S_IFBLK, "/dev/vda", "block"),
        (0, "anon_inode:[eventfd]", "eventfd"),
        (0, "anon_inode:[io_uring]", "other"),
        (stat.S_IFREG, "pidfd:[77]", "pidfd"),
    ],
)
def test_kind(mode, target, kind):
    """What the link and the file mode say together."""
    assert proc.kind_from(mode, target) == kind


@pytest.fixture
def zoo(tmp_path):
    """One descriptor of every sort that can be made without rights."""
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


def test_the_same_words_as_fd_kind(zoo):
    """What /proc tells about this process from outside is what `Fd.kind` says from inside."""
    seen = {one.number: one.kind for one in proc.descriptors(os.getpid())}
    assert {number: seen[number] for number in zoo} == {number: kind_of(number) for number in zoo}


def test_all_and_only_what_is_open(zoo):
    """In order, without the descriptors that looking itself needed."""
    numbers = [one.number for one in proc.descriptors(os.getpid())]
    assert numbers == sorted(numbers)
    assert set(zoo) <= set(numbers)
    for number in numbers:
        os.fstat(number)


def test_access_position_and_inheritance(tmp_path):
    """The flags and the offset of an open file."""
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


def find(sock):
    return next(one for one in proc.descriptors(os.getpid()) if one.number == sock.fileno())


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_tcp_addresses(family, host):
    """Both ends of a connection and its listener, as the process itself knows them."""
    try:
        listener = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"no {host} here")
    with listener, socket.create_connection(listener.getsockname()[:2]) as client, listener.accept()[0] as server:
        written = f"[{host}]" if family == socket.AF_INET6 else host
        local = f"{written}:{listener.getsockname()[1]}"
        remote = f"{written}:{client.getsockname()[1]}"
        protocol = "tcp6" if family == socket.AF_INET6 else "tcp"
        assert find(listener).endpoint == proc.Endpoint(protocol, "stream", "listening", local, None)
        assert find(client).endpoint == proc.Endpoint(protocol, "stream", "established", remote, local)
        assert find(server).endpoint == proc.Endpoint(protocol, "stream", "established", local, remote)


def test_descriptors_in_flight(tmp_path):
    """What was sent and not received is counted at the receiving end, and no more once received."""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with sender, receiver:
        socket.send_fds(sender, [b"x"], [0, 1, 2])
        assert (find(sender).in_flight, find(receiver).in_flight) == (0, 3)
        for fd in socket.recv_fds(receiver, 1, 3)[1]:
            os.close(fd)
        assert find(receiver).in_flight == 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert find(listener).in_flight is None


def test_a_process_that_has_ended():
    """No process: a typed error with its number."""
    child = subprocess.Popen(["true"])
    child.wait()
    for ask in (proc.name, proc.descriptors):
        with pytest.raises(NoSuchProcess, match=str(child.pid)):
            ask(child.pid)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_users_process():
    """Who may not look is told so."""
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            proc.descriptors(1)
        except NotPermitted as error:
            os._exit(0 if "process 1 " in error.strerror else 3)
        os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_name():
    """The short name, as ps shows it."""
    with open("/proc/self/comm") as file:
        assert proc.name(os.getpid()) == file.read().strip()
