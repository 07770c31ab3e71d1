"""`QuietLoop`: an event loop that runs until nothing is left to do. Its clock moves only when nothing else can."""

import asyncio
import contextlib
import fcntl
import selectors
import socket
import struct
import termios
import time

SOON = 0.02  # s: timers up to here are part of what is going on: a held head waits 2 ms, keep-alive lasts seconds
_HANG = 30  # s of real time, for bytes between two sockets of one machine
_IN_FLIGHT = 0.001  # s of real time until it is looked again whether they have come


class _Selector(selectors.EpollSelector):
    """Waits only for what the kernel still moves."""

    def __init__(self, loop):
        super().__init__()
        self.loop = loop

    def select(self, timeout=None):
        events = super().select(0)
        if events or timeout == 0:
            return events
        if self.loop.in_flight():
            return super().select(_IN_FLIGHT)
        events = super().select(0)  # what was in flight before may have come since
        if not events:
            self.loop.nothing_to_do(timeout)
        return events


class QuietLoop(asyncio.SelectorEventLoop):
    """See above.

    Attributes:
        moving: Called to ask whether bytes are on their way between sockets of this process.
    """

    def __init__(self):
        self._now = 0.0
        self._horizon = 0.0
        self._deadline = 0.0
        self.moving = bool
        super().__init__(_Selector(self))

    def time(self):
        """Seconds that it was told have passed."""
        return self._now

    def in_flight(self):
        """Whether something comes that nobody can wait for but by asking again.

        Raises:
            AssertionError: For too long.
        """
        if self.moving() and time.monotonic() > self._deadline:
            raise AssertionError("bytes do not arrive")
        return self.moving()

    def nothing_to_do(self, timeout):
        """The next timer is due, if it is soon; else it is quiet."""
        if timeout is not None and self._now + timeout <= self._horizon:
            self._now += timeout
        else:
            self.stop()

    def settle(self, seconds=SOON):
        """Run until it is quiet, and no timer is due within these seconds."""
        self._horizon = self._now + seconds
        self._deadline = time.monotonic() + _HANG
        self.run_forever()

    def finish(self, coroutine):
        """Run it to its end, however long its timers are; returns what it does."""
        self._horizon = float("inf")
        self._deadline = time.monotonic() + _HANG
        return self.run_until_complete(coroutine)


def written(sock):
    """How many bytes a TCP socket was given, ever; its end counts as one, and so does that it connected."""
    waiting = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]  # first: what is acknowledged
    return waiting + _counters(sock)[0]  # meanwhile is counted twice, and looked at again


def arrived(sock):
    """How many bytes have come to it, ever, whether or not they were read; the end counts as one."""
    return _counters(sock)[1]


def _counters(sock):
    return struct.unpack_from("QQ", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136), 120)


@contextlib.contextmanager
def quiet_loop():
    """A loop, closed at the end; what its callbacks raised is in its ``raised``."""
    loop = QuietLoop()
    loop.raised = []
    loop.set_exception_handler(lambda _, about: loop.raised.append(repr(about.get("exception"))))
    try:
        yield loop
    finally:
        loop.close()
