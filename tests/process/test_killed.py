"""A peer is killed at each step of a send and of a receive: no message arrives in part, and nothing leaks."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from fdpass import Channel, FdpassError, PeerClosed
from fdpass.testing import after, before, faulty_pair
from fdpass.testing.conformance import some_files

from ._channels import either_way, every_type

SIZE, COUNT = 150_000, 300  # several frames; on a packet socket also a memfd

_CHILD = """
import socket, sys
from fdpass import Channel
fd, acknowledged, role = int(sys.argv[1]), sys.argv[2] == "True", sys.argv[3]
channel = Channel(socket.socket(fileno=fd), acknowledged=acknowledged, max_fds=1000)
sys.stdout.write("ready\\n")
sys.stdout.flush()
if role == "receiver":
    for message in channel:
        message.close()
else:
    while True:
        channel.send(b"x" * {size}, [0] * {count})
"""

around = pytest.mark.parametrize("place", [before, after])


@contextmanager
def channel_to_child(kind, acknowledged, role):
    """A channel on a faulty socket, that socket, and the child process at the other end."""
    faulty, other = faulty_pair(kind)
    with Channel(faulty, acknowledged=acknowledged, max_fds=1000) as channel:
        channel.settimeout(20)
        with other:
            code = _CHILD.replace("{size}", str(SIZE)).replace("{count}", str(COUNT))
            arguments = [sys.executable, "-c", code, str(other.fileno()), str(acknowledged), role]
            child = subprocess.Popen(arguments, pass_fds=[other.fileno()], stdout=subprocess.PIPE)
        with child:
            try:
                assert child.stdout.readline() == b"ready\n"
                yield channel, faulty, child
            finally:
                child.kill()


def kill(child):
    child.kill()
    child.wait()


@every_type
@either_way
@around
@pytest.mark.parametrize("at", [1, 2])
def test_the_sender_hears_that_its_receiver_was_killed(kind, acknowledged, place, at):
    """The given descriptors are closed exactly if the send succeeded."""
    with channel_to_child(kind, acknowledged, "receiver") as (channel, faulty, child), some_files(COUNT) as files:
        faulty.script = {("sendmsg", at): place(lambda: kill(child))}
        error = None
        try:
            channel.send(b"x" * SIZE, files, give=True)
        except FdpassError as caught:
            error = caught
        # The kernel accepts a message for a peer that dies before reading it: only an acknowledgement proves more.
        assert {fd.closed for fd in files} == {error is None}
        if place is before:  # with after, the acknowledgement may have been sent already
            assert isinstance(error, PeerClosed)
        with pytest.raises(PeerClosed):
            channel.send(b"after")


@every_type
def test_an_acknowledged_sender_keeps_its_descriptors_if_the_receiver_is_killed(kind):
    """The message is in the receive queue of a process that will not read it."""
    with channel_to_child(kind, True, "receiver") as (channel, faulty, child), some_files(3) as files:
        child.send_signal(signal.SIGSTOP)  # it can be killed, but cannot acknowledge
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        faulty.script = {("sendmsg", 1): after(lambda: kill(child))}
        with pytest.raises(PeerClosed):
            channel.send(b"x", files, give=True)
        assert not any(fd.closed for fd in files)


@every_type
@either_way
@around
@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_whole_messages_of_a_killed_sender_are_received_and_parts_leave_nothing(kind, acknowledged, place, at):
    """After the whole messages, recv raises PeerClosed."""
    with channel_to_child(kind, acknowledged, "sender") as (channel, faulty, child):
        faulty.script = {("recvmsg", at): place(lambda: kill(child))}
        with pytest.raises(PeerClosed):
            while True:
                with channel.recv() as message:
                    assert (message.data, len(message.fds)) == (b"x" * SIZE, COUNT)
        assert child.returncode == -signal.SIGKILL
        with pytest.raises(PeerClosed):
            channel.recv()


@every_type
def test_a_queued_message_of_a_killed_sender_is_received_with_its_descriptors(kind):
    left, right = faulty_pair(kind)
    code = (
        "import os, socket, sys\n"
        "from fdpass import Channel\n"
        "Channel(socket.socket(fileno=int(sys.argv[1]))).send(b'last words', [0, 1])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    with Channel(left) as channel:
        with right:
            arguments = [sys.executable, "-c", code, str(right.fileno())]
            assert subprocess.run(arguments, pass_fds=[right.fileno()], check=False).returncode == -signal.SIGKILL
        with channel.recv() as message:
            assert (message.data, len(message)) == (b"last words", 2)
        with pytest.raises(PeerClosed):
            channel.recv()
