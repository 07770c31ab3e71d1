"""A peer that is killed at each step of a send and of a receive: what is whole stays whole, nothing is left."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from fdpass import Channel, FdpassError, PeerClosed
from fdpass.testing import after, before, faulty_pair
from fdpass.testing.conformance import some_files

SIZE, COUNT = 150_000, 300  # several frames, and a memfd on a packet socket

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

every_type = pytest.mark.parametrize("kind", ["seqpacket", "stream"])
either_way = pytest.mark.parametrize("acknowledged", [False, True], ids=["plain", "acknowledged"])
around = pytest.mark.parametrize("place", [before, after])


@contextmanager
def opposite(kind, acknowledged, role):
    """A channel on a faulty socket, that socket, and the process at the other end."""
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
def test_receiver_killed(kind, acknowledged, place, at):
    """The sender hears that its peer is gone; acknowledged, it still owns what it would have given."""
    with opposite(kind, acknowledged, "receiver") as (channel, faulty, child), some_files(COUNT) as files:
        faulty.script = {("sendmsg", at): place(lambda: kill(child))}
        error = None
        try:
            channel.send(b"x" * SIZE, files, give=True)
        except FdpassError as caught:
            error = caught
        # The kernel takes a message for a peer that dies before reading it: only an acknowledgement tells.
        assert {fd.closed for fd in files} == {error is None}
        if place is before:  # after it, an acknowledgement may have been on its way already
            assert isinstance(error, PeerClosed)
        with pytest.raises(PeerClosed):
            channel.send(b"after")


@every_type
def test_receiver_killed_before_it_acknowledges(kind):
    """The message is in the queue of a process that will not read it: the sender is told, and owns all."""
    with opposite(kind, True, "receiver") as (channel, faulty, child), some_files(3) as files:
        child.send_signal(signal.SIGSTOP)  # it can be killed, but cannot answer
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        faulty.script = {("sendmsg", 1): after(lambda: kill(child))}
        with pytest.raises(PeerClosed):
            channel.send(b"x", files, give=True)
        assert not any(fd.closed for fd in files)


@every_type
@either_way
@around
@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_sender_killed(kind, acknowledged, place, at):
    """What arrived whole is received; then the channel ends, and half a message leaves nothing."""
    with opposite(kind, acknowledged, "sender") as (channel, faulty, child):
        faulty.script = {("recvmsg", at): place(lambda: kill(child))}
        with pytest.raises(PeerClosed):
            while True:
                with channel.recv() as message:
                    assert (message.data, len(message.fds)) == (b"x" * SIZE, COUNT)
        assert child.returncode == -signal.SIGKILL
        with pytest.raises(PeerClosed):
            channel.recv()


@every_type
def test_queued_message_outlives_its_sender(kind):
    """A message that the kernel took is received, with its descriptors, after the sender's death."""
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
