"""`send_fds` and `recv_fds`: one message on any Unix socket; no descriptor leaks or is lost silently."""

import array
import errno
import os
import socket
import warnings

import numpy as np
import pytest

import fdpass
from fdpass import Closed, Fd, FdsLost, InvalidMessage, NotADescriptor, recv_fds, send_fds
from fdpass.testing import call_fails, full_table

TYPES = [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET]


@pytest.fixture(params=TYPES, ids=["stream", "dgram", "seqpacket"])
def pair(request):
    one, other = socket.socketpair(socket.AF_UNIX, request.param)
    with one, other:
        yield one, other


@pytest.fixture
def files(tmp_path):
    opened = []
    for i in range(3):
        (tmp_path / str(i)).write_bytes(str(i).encode())
        opened.append(Fd.open(tmp_path / str(i)))
    yield opened
    for fd in opened:
        fd.close()


def contents(message):
    return [os.pread(fd.fileno(), 10, 0) for fd in message.fds]


def test_lent_descriptors_arrive_in_order_and_stay_open(pair, files):
    """Ints, Fds and file objects can be mixed; lent descriptors stay open at the sender."""
    one, other = pair
    with files[2].dup().open("rb") as file:
        assert send_fds(one, b"hello", [files[0], files[1].fileno(), file]) == 5
    with recv_fds(other) as message:
        assert message.data == b"hello"
        assert contents(message) == [b"0", b"1", b"2"]
        assert not any(os.get_inheritable(fd.fileno()) for fd in message.fds)
    assert not any(fd.closed for fd in files)


def test_given_descriptors_are_closed_after_success_only(pair, files):
    """A given descriptor is closed once the kernel took it, and stays the sender's if the kernel did not."""
    one, other = pair
    number = os.dup(files[0].fileno())
    given = files[0].dup()
    send_fds(one, b"x", [number, given], give=True)
    assert given.closed
    with pytest.raises(OSError):
        os.fstat(number)
    recv_fds(other).close()
    other.close()
    kept = files[0].dup()
    with kept, pytest.raises(fdpass.FdpassError):
        for _ in range(2):
            send_fds(one, b"x", [kept], give=True)
    assert kept.closed  # by the with statement, which would fail if the send had closed the number


@pytest.mark.parametrize("bad", [["3"], [None], [3.0], [True], [object()], b"\0\0\0\0", "12", 5, [int]])
def test_an_argument_that_is_no_descriptor_is_refused_before_anything_is_sent(pair, bad):
    """The error is a TypeError, and the other end receives nothing."""
    one, other = pair
    with pytest.raises(NotADescriptor) as caught:
        send_fds(one, b"x", bad)
    assert isinstance(caught.value, TypeError)
    other.setblocking(False)
    with pytest.raises(fdpass.Busy):
        recv_fds(other)


def test_a_closed_object_and_a_number_that_is_not_open_are_different_errors(pair, files):
    """A closed Fd, file or socket raises Closed; a number that is not open raises BadDescriptor, an OSError."""
    one, other = pair
    fd = files[0].dup()
    file = files[0].dup().open("rb")
    sock = socket.socket()
    for thing in fd, file, sock:
        thing.close()
        with pytest.raises(Closed):
            send_fds(one, b"x", [thing])
    with pytest.raises(fdpass.BadDescriptor) as caught:
        send_fds(one, b"x", [files[0], 9999])
    assert isinstance(caught.value, OSError)
    other.setblocking(False)
    with pytest.raises(fdpass.Busy):
        recv_fds(other)
    one.close()
    with pytest.raises(Closed):
        send_fds(one, b"x", [files[0]])


def test_descriptors_without_data_are_refused_on_a_stream(files):
    """The kernel would return 0 and drop the descriptors."""
    one, other = socket.socketpair()
    with one, other, pytest.raises(InvalidMessage, match="at least one byte"):
        send_fds(one, b"", [files[0]])


def test_253_descriptors_are_sent_and_254_refused(pair, files):
    """SCM_MAX_FD is 253; the error names the remedy."""
    one, other = pair
    send_fds(one, b"x", [files[0]] * 253)
    with recv_fds(other) as message:
        assert len(message) == 253
    with pytest.raises(InvalidMessage, match="Channel"):
        send_fds(one, b"x", [files[0]] * 254)


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_descriptors_above_max_fds_are_closed_and_reported(pair, files, wanted):
    """The kernel does not count exactly: the padding of a small control buffer has room for one more."""
    one, other = pair
    send_fds(one, b"x", files)
    with pytest.raises(FdsLost) as caught:
        recv_fds(other, max_fds=wanted)
    lost = caught.value
    assert (lost.reason, lost.lost, lost.data, len(lost.fds)) == ("surplus", 3 - wanted, b"x", wanted)
    for fd in lost.fds:
        fd.close()


def test_a_full_descriptor_table_is_the_reported_reason_of_a_loss(pair, files):
    """recvmsg succeeds with too few free slots: the receiver owns the descriptors for which there was room."""
    one, other = pair
    send_fds(one, b"x", files)
    with full_table(free=1), pytest.raises(FdsLost) as caught:
        recv_fds(other)
    assert caught.value.reason == "table full"
    assert caught.value.errno == errno.EMFILE
    assert isinstance(caught.value, OSError)
    assert caught.value.data == b"x"
    assert len(caught.value.fds) == 1
    caught.value.fds[0].close()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_a_truncated_datagram_is_an_error_with_its_start_and_its_descriptors(kind, files):
    """The kernel drops only the end of the data."""
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    with one, other:
        send_fds(one, b"hello", files[:1])
        with pytest.raises(fdpass.Truncated) as caught:
            recv_fds(other, 2)
        assert caught.value.data == b"he"
        caught.value.fds[0].close()


def test_credentials_and_253_descriptors_arrive_together(pair, files):
    """With SO_PASSCRED the kernel puts credentials first; the control buffer has room for both."""
    one, other = pair
    other.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    send_fds(one, b"x", [files[0]] * 253)
    with recv_fds(other) as message:
        assert len(message) == 253
        assert message.credentials == (os.getpid(), os.getuid(), os.getgid())


def test_the_pidfd_of_so_passpidfd_is_closed(pair, files):
    """With SO_PASSPIDFD the kernel adds a descriptor to each message; the leak check would find it."""
    one, other = pair
    try:
        other.setsockopt(socket.SOL_SOCKET, 76, 1)
    except OSError:
        pytest.skip("this kernel has no SO_PASSPIDFD")
    send_fds(one, b"x", [files[0]])
    with recv_fds(other) as message:
        assert len(message) == 1


def test_end_of_file_is_an_empty_message():
    """The message has no data and no descriptors, and is false."""
    one, other = socket.socketpair()
    one.close()
    with other, recv_fds(other) as message:
        assert not message
        assert (message.data, message.fds) == (b"", ())


def test_a_forgotten_message_warns_and_closes(pair, files):
    """A message that is garbage-collected closes its descriptors, with a ResourceWarning."""
    one, other = pair
    send_fds(one, b"x", files)
    message = recv_fds(other)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del message
    assert "forgotten" in str(caught[0].message)


def test_a_descriptor_that_was_taken_out_stays_open_when_the_message_is_closed(pair, files):
    """close() does not touch an Fd that was emptied with take()."""
    one, other = pair
    send_fds(one, b"x", files)
    with recv_fds(other) as message:
        kept = Fd(message.fds[1].take())
    assert all(fd.closed for fd in message.fds)
    with kept:
        assert os.pread(kept.fileno(), 1, 0) == b"1"


def test_a_datagram_has_the_address_of_its_sender(tmp_path, files):
    """A server that is not connected replies to this address."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with server, client:
        server.bind(str(tmp_path / "server"))
        client.bind(str(tmp_path / "client"))
        send_fds(client, b"x", [files[0]], address=str(tmp_path / "server"))
        with recv_fds(server) as message:
            send_fds(server, b"y", message.fds, address=message.address)
        with recv_fds(client) as message:
            assert contents(message) == [b"0"]


def test_an_empty_socket_raises_busy_or_timeout(pair):
    """Busy if the socket does not block, Timeout if it has a timeout; both are also the built-in errors."""
    _, other = pair
    other.setblocking(False)
    with pytest.raises(BlockingIOError):
        recv_fds(other)
    other.settimeout(0.01)
    with pytest.raises(TimeoutError):
        recv_fds(other)
    other.close()
    with pytest.raises(Closed):
        recv_fds(other)


def test_any_buffer_can_be_sent(pair):
    """data is any object with the buffer protocol."""
    one, other = pair
    for data in b"ab", bytearray(b"ab"), memoryview(b"ab"), array.array("b", b"ab"):
        send_fds(one, data, [])
        assert recv_fds(other).data == b"ab"


def test_a_loss_of_descriptors_and_of_data_reports_both(files):
    """One error reports both losses."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        send_fds(one, b"0123456789", files)
        with pytest.raises(FdsLost, match="the end of the data was lost, too") as caught:
            recv_fds(other, 4, max_fds=1)
        assert caught.value.truncated
        assert caught.value.data == b"0123"
        caught.value.fds[0].close()


@pytest.mark.parametrize("data", [np.zeros(1, "u1"), np.ones((2, 3), "u1")], ids=["zero", "table"])
def test_data_with_bytes_counts_as_data_on_a_stream_whatever_its_truth_value(data, files):
    """A numpy array of one zero is false, and of several elements it has no truth value."""
    one, other = socket.socketpair()
    with one, other:
        assert send_fds(one, data, files[:1]) == data.nbytes
        with recv_fds(other) as message:
            assert (message.data, len(message)) == (data.tobytes(), 1)


def test_a_negative_max_fds_is_refused_before_anything_is_received(pair, files):
    one, other = pair
    send_fds(one, b"x", files)
    with pytest.raises(InvalidMessage, match="max_fds"):
        recv_fds(other, max_fds=-1)
    with recv_fds(other) as message:
        assert len(message) == 3


class Unhashable:
    """An object with a descriptor that cannot be in a set or a dict."""

    __hash__ = None

    def __init__(self, number):
        self.number = number

    def fileno(self):
        return self.number

    def close(self):
        os.close(self.number)
        self.number = -1


def test_an_object_that_is_not_hashable_can_be_given(pair, files):
    """The error would come after the message has gone, and look like a failed send."""
    one, other = pair
    given = Unhashable(os.dup(files[0].fileno()))
    send_fds(one, b"x", [given, given], give=True)
    assert given.number == -1
    recv_fds(other).close()


def test_an_error_of_close_leaves_no_other_given_descriptor_open(pair):
    """The kernel has taken the message; all that was given is closed before the error is raised."""
    one, other = pair
    kept, failing = os.dup(0), os.dup(0)
    with call_fails(os, "close", errno.EIO), pytest.raises(OSError, match="Input/output"):
        send_fds(one, b"x", [kept, failing], give=True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kept)
    os.close(failing)
    recv_fds(other).close()


def test_an_error_of_close_leaves_no_other_descriptor_of_a_message_open(pair, files):
    one, other = pair
    send_fds(one, b"x", files)
    message = recv_fds(other)
    numbers = [fd.fileno() for fd in message.fds]
    with call_fails(os, "close", errno.EIO), pytest.raises(OSError, match="Input/output"):
        message.close()
    assert all(fd.closed for fd in message.fds)
    os.close(numbers[2])  # the call that failed did not close it


def test_a_surplus_is_reported_even_if_closing_it_fails(pair, files):
    """With a file on FUSE a hostile peer decides what close(2) returns."""
    one, other = pair
    send_fds(one, b"x", files)
    with call_fails(os, "close", errno.EIO), pytest.raises(FdsLost, match="surplus"):
        recv_fds(other, max_fds=0)
