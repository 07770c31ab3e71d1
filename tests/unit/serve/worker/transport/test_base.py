"""Our transport for asyncio's protocols: what it reads, what the kernel has when, how it ends. On both loops."""

import asyncio
import contextlib
import select
import socket
from unittest import mock

import pytest

from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.poller import Poller
from fdpass.serve.worker.transport.base import Transport

uvloop = pytest.importorskip("uvloop")

LARGE = bytes(range(256)) * 40_000
"""More than sockets have room for."""


class Spoken(asyncio.Protocol):
    """A protocol that records what it is told."""

    def __init__(self, *, stays=False):
        self.said, self.data = [], b""
        self.over = asyncio.Event()
        self.stays = stays

    def connection_made(self, transport):
        self.transport = transport
        self.said.append("made")

    def data_received(self, data):
        self.data += data

    def eof_received(self):
        self.said.append("eof")
        return self.stays

    def pause_writing(self):
        self.said.append("pause")

    def resume_writing(self):
        self.said.append("resume")

    def connection_lost(self, error):
        self.said.append(error if error is None else type(error))
        self.over.set()


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Run a coroutine function with a poller, on either loop."""

    def run(main):
        async def whole():
            with contextlib.closing(Poller(asyncio.get_running_loop())) as poller:
                await asyncio.wait_for(main(poller), 30)
                assert not poller._calls  # nothing that has ended is watched

        (asyncio.run if request.param == "asyncio" else uvloop.run)(whole())

    return run


def pair(kind="tcp"):
    """A passed connection, the client's end, and a list to which it is appended when it is closed."""
    if kind == "unix":
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
    closed = []
    theirs.setblocking(False)
    return PassedSocket(ours.detach(), 1, closed.append), theirs, closed


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


async def read(theirs, count):
    """So many bytes, by the client."""
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < count:
        data += await loop.sock_recv(theirs, 65536)
    return data


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_what_is_there_is_read_at_once_and_what_is_written_is_sent_at_once(run, kind):
    async def main(poller):
        passed, theirs, closed = pair(kind)
        theirs.send(b"early")
        protocol = Spoken()
        transport = Transport(poller, passed)
        transport.start(protocol)
        assert (protocol.said, protocol.data) == (["made"], b"early")
        transport.write(b"answer")
        transport.write(bytearray(b", "))
        transport.writelines([b"and ", memoryview(b"more")])
        assert theirs.recv(100) == b"answer, and more"
        assert transport.get_write_buffer_size() == 0
        theirs.send(b", late")
        await until(lambda: protocol.data == b"early, late")
        transport.close()
        transport.write(b"too late")
        assert transport.is_closing()
        assert protocol.said == ["made"]
        await protocol.over.wait()
        assert protocol.said == ["made", None]
        assert (closed, theirs.recv(100)) == ([passed], b"")
        theirs.close()

    run(main)


@pytest.mark.parametrize("turns", [0, 3])
def test_what_the_kernel_has_no_room_for_is_sent_later_and_the_protocol_pauses(run, turns):
    async def main(poller):
        passed, theirs, _ = pair()
        protocol = Spoken()
        transport = Transport(poller, passed)
        transport.start(protocol)
        for _ in range(turns):
            await asyncio.sleep(0)
        transport.write(LARGE)
        transport.write(b"the end")
        assert protocol.said == ["made", "pause"]
        assert 0 < transport.get_write_buffer_size() < len(LARGE)
        transport.close()
        assert await read(theirs, len(LARGE) + 7) == LARGE + b"the end"
        await protocol.over.wait()
        assert protocol.said == ["made", "pause", "resume", None]
        theirs.close()

    run(main)


def test_the_limits_of_what_waits_can_be_set(run):
    async def main(poller):
        passed, theirs, _ = pair()
        transport = Transport(poller, passed)
        transport.start(Spoken())
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=100)
        assert transport.get_write_buffer_limits() == (100, 400)
        transport.abort()
        await until(lambda: not passed.fileno() >= 0)
        theirs.close()

    run(main)


def test_while_it_is_paused_nothing_is_read(run):
    async def main(poller):
        passed, theirs, _ = pair()
        protocol = Spoken()
        transport = Transport(poller, passed)
        transport.start(protocol)
        await asyncio.sleep(0)
        transport.pause_reading()
        assert not transport.is_reading()
        theirs.send(b"data")
        for _ in range(5):
            await asyncio.sleep(0)
        assert protocol.data == b""
        transport.resume_reading()
        await until(lambda: protocol.data == b"data")
        transport.abort()
        await protocol.over.wait()
        theirs.close()

    run(main)


@pytest.mark.parametrize("stays", [False, True])
def test_a_client_that_ends_its_side_is_told_of_and_can_still_be_answered(run, stays):
    async def main(poller):
        passed, theirs, _ = pair()
        protocol = Spoken(stays=stays)
        transport = Transport(poller, passed)
        transport.start(protocol)
        theirs.shutdown(socket.SHUT_WR)
        await until(lambda: "eof" in protocol.said)
        assert transport.is_closing() is not stays
        if stays:
            transport.resume_reading()  # there is nothing more to be read
            assert not transport.is_reading()
            transport.write(b"answer")
            assert await read(theirs, 6) == b"answer"
            transport.close()
        await protocol.over.wait()
        assert protocol.said == ["made", "eof", None]
        theirs.close()

    run(main)


@pytest.mark.parametrize("size", [5, len(LARGE)])
def test_write_eof_ends_only_the_sending_once_all_is_sent(run, size):
    async def main(poller):
        passed, theirs, _ = pair()
        protocol = Spoken()
        transport = Transport(poller, passed)
        transport.start(protocol)
        assert transport.can_write_eof()
        transport.write(LARGE[:size])
        transport.write_eof()
        transport.write_eof()
        assert await read(theirs, size) == LARGE[:size]
        assert await asyncio.get_running_loop().sock_recv(theirs, 1) == b""
        theirs.send(b"still here")
        await until(lambda: protocol.data == b"still here")
        transport.close()
        await protocol.over.wait()
        theirs.close()

    run(main)


@pytest.mark.parametrize("act", ["read", "write", "drain"])
def test_a_connection_that_was_reset_is_lost(run, act):
    async def main(poller):
        passed, theirs, closed = pair()
        protocol = Spoken()
        transport = Transport(poller, passed)
        transport.start(protocol)
        await asyncio.sleep(0)
        if act == "drain":
            transport.write(LARGE)
            transport.pause_reading()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        if act == "write":
            transport.write(b"x")
            transport.write(b"y")
            assert transport.is_closing()
        await protocol.over.wait()
        assert protocol.said[-1] in {ConnectionResetError, BrokenPipeError}
        assert closed == [passed]

    run(main)


def test_a_protocol_that_fails_ends_its_connection_and_is_reported(run):
    async def main(poller):
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: told.append(about))

        class Fails(Spoken):
            def data_received(self, data):
                raise LookupError(data)

        for early in (True, False):
            passed, theirs, closed = pair()
            if early:
                theirs.send(b"x")
            protocol = Fails()
            Transport(poller, passed).start(protocol)
            theirs.send(b"x")
            await protocol.over.wait()
            assert protocol.said == ["made", LookupError]
            assert (told[-1]["protocol"], closed) == (protocol, [passed])
            theirs.close()
        assert [type(about["exception"]) for about in told] == [LookupError] * 2

    run(main)


def test_abort_forgets_what_waits(run):
    async def main(poller):
        passed, theirs, closed = pair()
        protocol = Spoken()
        transport = Transport(poller, passed)
        transport.start(protocol)
        transport.write(LARGE)
        transport.abort()
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        await protocol.over.wait()
        assert protocol.said == ["made", "pause", None]
        assert closed == [passed]
        theirs.close()

    run(main)


def test_another_protocol_can_take_over(run):
    async def main(poller):
        passed, theirs, _ = pair()
        first, second = Spoken(), Spoken()
        transport = Transport(poller, passed)
        transport.start(first)
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        theirs.send(b"data")
        await until(lambda: second.data == b"data")
        transport.close()
        await second.over.wait()
        assert (first.said, second.said) == (["made"], [None])
        theirs.close()

    run(main)


def test_it_says_who_is_at_the_ends(run):
    async def main(poller):
        passed, theirs, _ = pair()
        transport = Transport(poller, passed)
        transport.start(Spoken())
        info = transport.get_extra_info
        assert info("socket") is passed
        assert (info("peername"), info("sockname")) == (theirs.getsockname(), theirs.getpeername())
        assert (info("sslcontext"), info("cipher", "none")) == (None, "none")
        transport.abort()
        await until(lambda: passed.fileno() < 0)
        assert info("peername", "gone") == "gone"
        theirs.close()

    run(main)


def test_if_the_kernel_watches_no_more_it_is_lost(run):
    async def main(poller):
        passed, theirs, closed = pair()
        protocol = Spoken()
        refused = OSError(28, "No space left on device")
        with mock.patch.object(poller, "watch", side_effect=refused):
            Transport(poller, passed).start(protocol)
            await protocol.over.wait()
        assert protocol.said == ["made", OSError]
        assert closed == [passed]
        theirs.close()

    run(main)


# The poller


def test_what_one_has_ended_is_not_called_any_more(run):
    """Events of a poll are there at once; what the first of them does is seen by the others."""

    async def main(poller):
        pairs = [socket.socketpair() for _ in range(3)]
        called = []

        def call(number, events):
            called.append(number)
            for ours, _ in pairs:
                poller.unwatch(ours.fileno())

        for ours, theirs in pairs:
            poller.watch(ours.fileno(), select.EPOLLIN, call)
            theirs.send(b"x")
        await until(lambda: called)
        await asyncio.sleep(0.01)
        assert len(called) == 1
        for both in pairs:
            for one in both:
                one.close()

    run(main)


def test_events_can_be_changed(run):
    async def main(poller):
        ours, theirs = socket.socketpair()
        found = []

        def call(number, events):
            found.append((number, events))

        poller.watch(ours.fileno(), select.EPOLLIN, call)
        await asyncio.sleep(0)
        assert found == []
        poller.watch(ours.fileno(), select.EPOLLOUT, call)
        await until(lambda: found)
        assert found[0] == (ours.fileno(), select.EPOLLOUT)
        poller.unwatch(ours.fileno())
        ours.close()
        theirs.close()

    run(main)
