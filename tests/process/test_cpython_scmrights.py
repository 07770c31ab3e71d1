"""CPython's own tests of descriptor passing, `SCMRightsTest` and `SendRecvFdsTests`, run against our two calls.

They are imported from the interpreter's `test` package. CPython runs them over streams; here they run over
seqpacket and datagrams as well.

All cases run. ``send_fds`` cannot *send* two of them (`PARTIAL`): Python sends these, and ``recv_fds`` receives.
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
    "testFDPassPartialInt": "it sends three bytes of a number, but send_fds takes whole numbers",
    "testFDPassPartialIntInMiddle": "its first array ends within a number, but send_fds takes whole numbers",
}

ALL_CASES = {name for name in dir(cpython.SCMRightsTest) if name.startswith("test")}
RIGHTS = (socket.SOL_SOCKET, socket.SCM_RIGHTS)


@pytest.fixture(autouse=True)
def _as_the_cases_expect(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # CPython binds its sockets in the working directory


class AdaptedSocket(socket.socket):
    """A socket whose sendmsg(), recvmsg() and recvmsg_into() call send_fds() and recv_fds()."""

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
    """Call recv_fds(), and return what recvmsg() would: a flag in place of FdsLost.

    A small control buffer becomes a small ``max_fds``. So the cases of truncation test how recv_fds handles a
    surplus, not truncation by the kernel: recv_fds always makes room for all.
    """
    try:
        message = fdpass.recv_fds(sock, bufsize, max_fds=max_fds, flags=flags)
    except fdpass.FdsLost as lost:
        return lost.data, [fd.take() for fd in lost.fds], socket.MSG_CTRUNC, lost.address
    # The kernel returns the flag for close-on-exec, for which a plain recvmsg() does not ask.
    came = message.flags & ~socket.MSG_CMSG_CLOEXEC
    return message.data, [fd.take() for fd in message.fds], came, message.address


class OurCalls:
    """Gives the cases adapted sockets, and checks that they called send_fds and recv_fds."""

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
    """Bound datagram sockets that are not connected. CPython has this class for Internet sockets only."""


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
    """The cases for socket.send_fds() and socket.recv_fds(), with those of fdpass in their place."""

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


del SendRecvFds  # or pytest runs the base class, too


def test_every_class_and_case_of_cpython_runs_here():
    """With the next Python, new classes and renamed cases fail this test."""
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
