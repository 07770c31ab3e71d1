"""Closing a channel or a listener while other threads, signal handlers or processes use it."""

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from fdpass import CallFailed, Channel, Closed, Fd, Listener, PeerClosed, ProtocolError, connect, listen, send_fds
from fdpass import _waiting as waiting
from fdpass.testing import full_table

from ._channels import either_way

FULL = b"x" * 10_000_000  # more than a stream's buffer takes


@pytest.fixture
def waits(monkeypatch):
    """An event that is set when a thread is about to wait."""
    event = threading.Event()
    real = waiting.Waits.wait

    def wait(self, *arguments):
        event.set()
        return real(self, *arguments)

    monkeypatch.setattr(waiting.Waits, "wait", wait)
    return event


def in_thread(call):
    """Start the call in a thread. Returns the thread, and a list for what the call returns or raises."""
    heard = []

    def run():
        try:
            heard.append(call())
        except BaseException as error:
            heard.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, heard


def ended(thread, heard):
    """The type and the text of what the thread's call raised."""
    thread.join(60)
    assert not thread.is_alive()
    return [(type(each), str(each)) for each in heard]


CLOSED = [(Closed, "this channel is closed")]


@either_way
@pytest.mark.parametrize("timeout", [None, 1000])
@pytest.mark.parametrize("kind", ["seqpacket", "stream"])
def test_close_ends_a_recv_in_another_thread(waits, acknowledged, timeout, kind):
    """As for the async channel. The number is free once the thread has left."""
    ours, theirs = Channel.pair(kind, acknowledged=acknowledged)
    with theirs:
        ours.settimeout(timeout)
        number = ours.fileno()
        thread, heard = in_thread(ours.recv)
        assert waits.wait(60)
        ours.close()
        assert (ours.closed, ours.fileno()) == (True, -1)
        assert ended(thread, heard) == CLOSED
        with pytest.raises(OSError):
            os.fstat(number)


@either_way
def test_close_ends_a_send_in_another_thread(waits, acknowledged):
    """It waits for room, or for the answer of the peer; what was to be given stays open."""
    ours, theirs = Channel.pair("stream", acknowledged=acknowledged)
    with theirs, Fd(os.dup(0)) as fd:
        thread, heard = in_thread(lambda: ours.send(b"x" if acknowledged else FULL, [fd], give=True))
        assert waits.wait(60)
        ours.close()
        assert ended(thread, heard) == CLOSED
        assert not fd.closed


def test_close_ends_all_threads_in_send_and_recv(waits):
    """The last one that leaves closes the socket."""
    ours, theirs = Channel.pair("stream")
    with theirs:
        number = ours.fileno()
        threads = [in_thread(call) for call in (ours.recv, ours.recv, lambda: ours.send(FULL), ours.recv)]
        assert waits.wait(60)
        ours.close()
        assert [ended(*each) for each in threads] == [CLOSED] * 4
        with pytest.raises(OSError):
            os.fstat(number)
        with pytest.raises(Closed):
            ours.send(b"x")


def test_close_ends_a_recv_when_the_descriptor_table_is_full(waits):
    """No slot is free for the eventfd, so the thread looks ten times a second."""
    ours, theirs = Channel.pair()
    with theirs:
        with full_table():
            thread, heard = in_thread(ours.recv)
            assert waits.wait(60)
            ours.close()
            thread.join(60)
        assert ended(thread, heard) == CLOSED


@pytest.mark.parametrize("timeout", [None, 1000])
def test_close_ends_an_accept_in_another_thread(waits, path, timeout):
    """Iteration over the listener ends, too."""
    listener = listen(path)
    listener.settimeout(timeout)
    one, other = in_thread(listener.accept), in_thread(lambda: list(listener))
    assert waits.wait(60)
    listener.close()
    assert not os.path.exists(path)
    assert (listener.closed, listener.fileno(), listener.address) == (True, -1, "")
    assert ended(*one) == [(Closed, "this listener is closed")]
    assert ended(*other) == [(list, "[]")]


def test_closing_a_listener_leaves_the_socket_of_another_process_alone(waits, path):
    """shutdown(2) would wake the thread, too, but would end the listening of the service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(path)
        sock.listen()
        listener = Listener(sock.dup())
        thread, heard = in_thread(listener.accept)
        assert waits.wait(60)
        listener.close()
        assert ended(thread, heard) == [(Closed, "this listener is closed")]
        with connect(path):
            sock.accept()[0].close()


HANDLER = """
import os, signal, sys, fdpass
left, right = fdpass.Channel.pair("stream")
listener = fdpass.listen("@fdpass-%d" % os.getpid())
owner = listener if sys.argv[1] == "accept" else left
signal.signal(signal.SIGUSR1, lambda *_: owner.close())
owner.settimeout(float(sys.argv[2]) if sys.argv[2] else None)
calls = {"accept": listener.accept, "recv": left.recv, "send": lambda: left.send(bytes(10_000_000))}
print("ready", flush=True)
try:
    calls[sys.argv[1]]()
except fdpass.Closed as error:
    print(error, owner.closed)
"""


@pytest.mark.parametrize("timeout", ["", "1000"])
@pytest.mark.parametrize("call", ["recv", "send", "accept"])
def test_a_signal_handler_closes_what_its_own_thread_waits_for(call, timeout):
    """No lock may keep the handler waiting for the call that it interrupts."""
    command = [sys.executable, "-c", HANDLER, call, timeout]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout.readline() == "ready\n"
            while _state(child.pid) != "S":
                time.sleep(0.001)
            child.send_signal(signal.SIGUSR1)
            printed, _ = child.communicate(timeout=60)
        finally:
            child.kill()
    assert printed == f"this {'listener' if call == 'accept' else 'channel'} is closed True\n"


def _state(pid):
    """S if the process sleeps in a system call."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_a_forgotten_channel_closes_descriptors_of_a_message_in_part():
    """They are numbers that no object owns yet."""
    ours, theirs = socket.socketpair()
    r, w = map(Fd, os.pipe())
    with theirs, r:
        channel = Channel(ours)
        channel.settimeout(0)
        send_fds(theirs, b"fd\1", [w], give=True)
        with pytest.raises(TimeoutError):
            channel.recv()
        del ours
        with pytest.warns(ResourceWarning):
            del channel
        assert os.read(r.fileno(), 1) == b""


def in_child(call):
    """Run the call in a forked child: its exit status, 0 if it returned true."""
    pid = os.fork()
    if pid == 0:
        status = 2
        try:
            status = 0 if call() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("kind", ["seqpacket", "stream"])
def test_a_forked_child_does_not_send_what_the_parent_has_not_sent(kind):
    """Both would send it: the peer would get it twice, on a stream in the middle of a frame."""
    ours, theirs = Channel.pair(kind)
    with ours, theirs:
        ours.settimeout(0)
        sent = 0
        with pytest.raises(TimeoutError):  # the last message waits, on a stream in part
            while True:
                ours.send(b"x" * 50_000)
                sent += 1
        received = [theirs.recv().data for _ in range(2)]

        def child():
            try:
                ours.send(b"from the child")
            except CallFailed as error:
                assert kind == "stream"
                assert "forked" in str(error)
            ours.close()
            return True

        assert in_child(child) == 0
        ours.settimeout(None)
        ours.send(b"last")
        while not received[-1].startswith(b"last"):
            received.append(theirs.recv().data)
    extra = [b"x" * 50_000] if kind == "stream" else [b"from the child"]
    assert received == [b"x" * 50_000] * sent + extra + [b"last"]


def test_a_forked_child_closes_its_copies_while_a_thread_of_the_parent_waits(waits, path):
    """The locks that the thread holds have no owner in the child; the parent's thread goes on waiting."""
    ours, theirs = Channel.pair()
    with ours, theirs, listen(path) as listener:
        one, other = in_thread(ours.recv), in_thread(listener.accept)
        assert waits.wait(60)

        def child():
            numbers = [ours.fileno(), listener.fileno()]
            ours.close()
            listener.close()
            return not any(map(_is_open, numbers))

        assert in_child(child) == 0
        theirs.send(b"x")
        with connect(path):
            for thread, _ in (one, other):
                thread.join(60)
        assert one[1][0].data == b"x"
        other[1][0].close()


def _is_open(number):
    try:
        fcntl.fcntl(number, fcntl.F_GETFD)
    except OSError:
        return False
    return True


def test_an_end_before_the_wait_is_not_missed():
    """A thread may be about to wait when another closes."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        waits = waiting.Waits()
        waits.end()
        assert waits.wait(ours, select.POLLIN, None)
        waits.close()


@pytest.mark.parametrize("seconds", [30 * 86400, 1e10, 1e300, float("inf")])
def test_a_timeout_can_be_of_any_length(path, seconds, waits):
    """poll(2) takes at most 24 days, and locks 292 years."""
    with listen(path) as listener:
        listener.settimeout(seconds)
        thread, heard = in_thread(listener.accept)
        assert waits.wait(60)
        with connect(path, timeout=seconds) as client:
            thread.join(60)
            with heard[0] as server:
                waits.clear()
                server.settimeout(seconds)
                thread, heard = in_thread(server.recv)
                assert waits.wait(60)
                client.settimeout(seconds)
                client.send(b"x")
                thread.join(60)
                assert heard[0].data == b"x"


@either_way
@pytest.mark.parametrize("kind", ["seqpacket", "stream"])
def test_whatever_the_threads_are_doing_when_both_ends_are_closed_nothing_hangs_or_leaks(kind, acknowledged):
    """The leak check of the suite sees what stays open; a number that is closed twice raises."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for length in [1, 100_000] * 20:
            ours, theirs = Channel.pair(kind, acknowledged=acknowledged)
            calls = [lambda end=end: _receive(end) for end in (ours, ours, theirs)]
            calls += [lambda end=end, data=bytes(length): _send(end, data) for end in (ours, theirs)]
            threads = [in_thread(call) for call in calls]
            ours.close()
            theirs.close()
            for thread, heard in threads:
                assert {kind for kind, _ in ended(thread, heard)} <= {Closed, PeerClosed, ProtocolError}
    finally:
        sys.setswitchinterval(before)


def _receive(channel):
    while True:
        channel.recv().close()


def _send(channel, data):
    while True:
        channel.send(data, [0])
