"""CPython's own tests of descriptor passing, `SCMRightsTest` and `SendRecvFdsTests`, run against our two calls.

They are imported from the interpreter's `test` package. CPython runs them over a stream, and so do we; the same
cases run over seqpacket and datagrams as well, which CPython's own list leaves out.

No case is left out. Two cannot be *sent* by ``send_fds`` (`PARTIAL`), and are sent by Python for us to receive.
"""

from __future__ import annotations

import array
import socket
import unittest
from unittest import mock

import pytest

import fdpass

cpython = pytest.importorskip("test.test_socket", reason="this Python comes without its test package")

PARTIAL = {
    "testFDPassPartialInt": "three bytes of a number are no descriptor: send_fds takes whole ones",
    "testFDPassPartialIntInMiddle": "the first of two arrays ends within a number: send_fds takes whole ones",
}

ALL_CASES = {name for name in dir(cpython.SCMRightsTest) if name.startswith("test")}
RIGHTS = (socket.SOL_SOCKET, socket.SCM_RIGHTS)


@pytest.fixture(autouse=True)
def _as_the_cases_expect(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where CPython binds its sockets


class AdaptedSocket(socket.socket):
    """sendmsg(), recvmsg() and recvmsg_into() with our calls beneath, which go on to the plain ones."""

    def accept(self):
        sock, address = super().accept()
        return AdaptedSocket(fileno=sock.detach()), address

    def sendmsg(self, buffers, ancillary=(), flags=0, address=None):
        fds = array.array("i")
        for level, kind, content in ancillary:
            assert (level, kind) == RIGHTS
            fds.frombytes(bytes(content))
        return fdpass.send_fds(super(), b"".join(buffers), fds.tolist(), flags=flags, address=address)

    def recvmsg(self, bufsize, ancbufsize=0, flags=0):
        room = max(0, ancbufsize - socket.CMSG_LEN(0)) // array.array("i").itemsize
        data, fds, came, address = receive(super(), bufsize, min(room, fdpass.MAX_FDS), flags)
        return data, [(*RIGHTS, array.array("i", fds).tobytes())] if fds else [], came, address

    def recvmsg_into(self, buffers, ancbufsize=0, flags=0):
        (buffer,) = buffers
        data, *rest = self.recvmsg(len(buffer), ancbufsize, flags)
        buffer[: len(data)] = data
        return len(data), *rest


def receive(sock, bufsize, max_fds, flags=0):
    """recv_fds() told as recvmsg() tells it: what we raise as FdsLost is a flag there.

    A small control buffer becomes a small ``max_fds``. So the cases of truncation hold what we do with a surplus;
    the kernel's own cutting cannot be brought about here, for recv_fds always makes room for all.
    """
    try:
        message = fdpass.recv_fds(sock, bufsize, max_fds=max_fds, flags=flags)
    except fdpass.FdsLost as lost:
        return lost.data, [fd.take() for fd in lost.fds], socket.MSG_CTRUNC, lost.address
    # The kernel reports back that close-on-exec was asked for, which plain recvmsg() does not ask.
    came = message.flags & ~socket.MSG_CMSG_CLOEXEC
    return message.data, [fd.take() for fd in message.fds], came, message.address


class OurCalls:
    """Gives the cases adapted sockets, and checks that what should go through our calls did."""

    kind = socket.SOCK_STREAM

    def newSocket(self):
        return AdaptedSocket(socket.AF_UNIX, self.kind)

    def newClientSocket(self):
        return socket.socket(socket.AF_UNIX, self.kind) if self._testMethodName in PARTIAL else self.newSocket()

    def setUp(self):
        for name in ("send_fds", "recv_fds"):
            patch = mock.patch.object(fdpass, name, wraps=getattr(fdpass, name))
            setattr(self, name, patch.start())
            self.addCleanup(patch.stop)
        super().setUp()

    def tearDown(self):
        super().tearDown()
        self.recv_fds.assert_called()
        assert self.send_fds.called == (self._testMethodName not in PARTIAL)


class UnixDgramBase(
    cpython.SendrecvmsgDgramFlagsBase,
    cpython.SendrecvmsgConnectionlessBase,
    cpython.ThreadedSocketTestMixin,
    cpython.UnixSocketTestBase,
):
    """Unconnected datagram sockets, each bound: CPython has this for Internet sockets only."""


class TestStream(OurCalls, cpython.RecvmsgSCMRightsStreamTest):
    pass


class TestStreamInto(OurCalls, cpython.RecvmsgIntoSCMRightsStreamTest):
    pass


class TestSeqpacket(OurCalls, cpython.RecvmsgSCMRightsStreamTest):
    kind = socket.SOCK_SEQPACKET


class TestSeqpacketInto(OurCalls, cpython.RecvmsgIntoSCMRightsStreamTest):
    kind = socket.SOCK_SEQPACKET


class TestDgram(OurCalls, cpython.SCMRightsTest, UnixDgramBase):
    kind = socket.SOCK_DGRAM


class TestDgramInto(OurCalls, cpython.RecvmsgIntoMixin, cpython.SCMRightsTest, UnixDgramBase):
    kind = socket.SOCK_DGRAM


class SendRecvFds(cpython.SendRecvFdsTests):
    """socket.send_fds() and socket.recv_fds() replaced by ours."""

    kind = socket.SOCK_STREAM

    def setUp(self):
        super().setUp()
        make_pair = socket.socketpair
        replaced = {
            "send_fds": lambda sock, buffers, fds: fdpass.send_fds(sock, b"".join(buffers), fds),
            "recv_fds": receive,
            "socketpair": lambda family, _kind: make_pair(family, self.kind),
        }
        patch = mock.patch.multiple(socket, **replaced)
        patch.start()
        self.addCleanup(patch.stop)


class TestSendRecvFdsStream(SendRecvFds):
    pass


class TestSendRecvFdsSeqpacket(SendRecvFds):
    kind = socket.SOCK_SEQPACKET


class TestSendRecvFdsDgram(SendRecvFds):
    kind = socket.SOCK_DGRAM


del SendRecvFds  # a base, which pytest would run as well


def test_every_class_of_cpython_is_here():
    """A new class, or a case that should be in PARTIAL by another name, is noticed with the next Python."""
    wanted = {
        theirs
        for name, theirs in vars(cpython).items()
        if isinstance(theirs, type) and ("SCMRights" in name or "SendRecvFds" in name)
    }
    ours = [kind for name, kind in globals().items() if name.startswith("Test")]
    assert wanted <= {base for kind in ours for base in kind.__mro__}
    assert len(ALL_CASES) >= 18
    assert set(PARTIAL) < ALL_CASES
    assert all(ALL_CASES <= set(dir(kind)) for kind in ours if issubclass(kind, OurCalls))
    assert all(issubclass(kind, unittest.TestCase) for kind in ours)
