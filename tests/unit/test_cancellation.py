"""Cancellation of an AsyncChannel at any await: no descriptor lost, no message lost, none torn."""

import socket

import anyio
import pytest
from anyio.lowlevel import checkpoint

from fdpass import AsyncChannel, Closed
from fdpass.testing.conformance import some_files

LOOPS = {"asyncio": ("asyncio", {}), "uvloop": ("asyncio", {"use_uvloop": True}), "trio": ("trio", {})}
# What fits into one frame, what takes many or a memfd, and what fills the socket by itself.
MESSAGES = [(10, 0), (0, 3), (70_000, 2), (400_000, 300), (1, 1)] * 6

every_loop = pytest.mark.parametrize("loop", LOOPS)
every_type = pytest.mark.parametrize("kind", ["seqpacket", "stream"])
either_way = pytest.mark.parametrize("acknowledged", [False, True], ids=["plain", "acknowledged"])


class CancelledAt:
    """Runs a coroutine, and cancels its scope when it waits for the n-th time."""

    def __init__(self, coroutine, scope, n):
        self.coroutine, self.scope, self.left = coroutine, scope, n

    def __await__(self):
        inner = self.coroutine.__await__()
        step, value = inner.send, None
        while True:
            try:
                wish = step(value)
            except StopIteration as end:
                return end.value
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()
            try:
                value, step = (yield wish), inner.send
            except BaseException as error:
                value, step = error, inner.throw


async def attempt(coroutine, n):
    """(True, result), or (False, None) if it was cancelled."""
    with anyio.CancelScope() as scope:
        return True, await CancelledAt(coroutine, scope, n)
    return False, None


def run(loop, function):
    backend, options = LOOPS[loop]

    async def bounded():
        with anyio.fail_after(50):
            await function()

    anyio.run(bounded, backend=backend, backend_options=options)


def content(number, size):
    return b"%08d" % number + bytes(size)


@every_loop
@every_type
@either_way
def test_cancelled_recv_takes_nothing(loop, kind, acknowledged):
    """However often recv is cancelled, wherever it waits: every message comes, once, whole and in order."""

    async def main():
        left, right = AsyncChannel.pair(kind, acknowledged=acknowledged, max_fds=1000)
        with some_files(300) as files:
            async with left, right, anyio.create_task_group() as tasks:

                async def send():
                    for number, (size, count) in enumerate(MESSAGES):
                        await left.send(content(number, size), files[:count])

                tasks.start_soon(send)
                for number, (size, count) in enumerate(MESSAGES):
                    done, n = False, 0
                    while not done:
                        n += 1
                        done, message = await attempt(right.recv(), n % 4)  # 0 does not cancel
                        await checkpoint()
                    with message:
                        assert message.data == content(number, size)
                        assert len(message) == count

    run(loop, main)


@every_loop
@every_type
@either_way
def test_cancelled_send_keeps_what_it_would_give(loop, kind, acknowledged):
    """A cancelled send leaves ownership with the sender and the channel usable; what was sent arrives in order."""

    async def main():
        left, right = AsyncChannel.pair(kind, acknowledged=acknowledged, max_fds=1000)
        sent, received, last = [], [], len(MESSAGES) - 1

        async def receive():
            async for message in right:
                with message:
                    number = int(message.data[:8])
                    size, count = MESSAGES[number]
                    assert message.data == content(number, size)
                    assert len(message) == count
                    received.append(number)

        with some_files(300) as files:
            async with right, anyio.create_task_group() as tasks:
                tasks.start_soon(receive)
                async with left:
                    for number, (size, count) in enumerate(MESSAGES[:-1]):
                        given = [fd.dup() for fd in files[:count]]
                        done, _ = await attempt(
                            left.send(content(number, size), given, give=True), 1 + number // 5 % 4
                        )
                        assert all(fd.closed == done for fd in given)
                        for fd in given:
                            fd.close()
                        if done:
                            sent.append(number)
                    await left.send(content(last, MESSAGES[last][0]), files[: MESSAGES[last][1]])
                    sent.append(last)
        # A cancelled message whose last frame had gone may have arrived as well: but whole, and in its place.
        assert [number for number in received if number in sent] == sent
        assert sorted(set(received)) == received

    run(loop, main)


@every_loop
@every_type
def test_cancelled_beforehand(loop, kind):
    """In a scope that is cancelled already, a message is either received and returned, or still there."""

    async def main():
        left, right = AsyncChannel.pair(kind)
        async with left, right:
            numbers = []
            for number in range(40):
                await left.send(b"%d" % number, [0])
            while len(numbers) < 40:
                with anyio.move_on_after(0):
                    with await right.recv() as message:
                        numbers.append(int(message.data))
            assert numbers == list(range(40))

    run(loop, main)


@every_loop
@every_type
def test_closing_wakes_who_waits(loop, kind):
    """Who waits in recv or send when the channel is closed gets Closed, and nothing stays registered."""

    async def main():
        left, right = AsyncChannel.pair(kind)
        ended = []

        async def waits(function, *args):
            with pytest.raises(Closed):
                while True:
                    await function(*args)
            ended.append(function)

        async with right, anyio.create_task_group() as tasks:
            tasks.start_soon(waits, left.recv)
            tasks.start_soon(waits, left.send, b"x" * 60_000)
            await anyio.wait_all_tasks_blocked()
            left.close()
        assert len(ended) == 2

    run(loop, main)


@every_loop
def test_several_receivers_share(loop):
    """Messages that arrive while several tasks receive, some cancelled, reach the others."""

    async def main():
        left, right = AsyncChannel.pair()
        got = []

        async def receive():
            with await right.recv() as message:
                got.append(message.data)

        async with left, right, anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as doomed:
                doomed.start_soon(receive)
                await anyio.wait_all_tasks_blocked()
                for _ in range(3):
                    tasks.start_soon(receive)
                await anyio.wait_all_tasks_blocked()
                doomed.cancel_scope.cancel()
            for i in range(3):
                await left.send(b"%d" % i)
        assert sorted(got) == [b"0", b"1", b"2"]

    run(loop, main)


def test_channel_of_a_blocking_socket_does_not_block_the_loop():
    """A channel made of a socket in blocking mode waits in the loop, not in the kernel."""

    async def main():
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        async with AsyncChannel(one) as left, AsyncChannel(other) as right:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(right.recv)
                await anyio.wait_all_tasks_blocked()
                await left.send(b"x")

    run("asyncio", main)


@every_loop
def test_a_channel_can_be_closed_after_its_loop_has_ended(loop):
    """There is no loop left to tell, and no task that waits."""
    ends = []

    async def main():
        ends.extend(AsyncChannel.pair())

    run(loop, main)
    for end in ends:
        end.close()
        assert end.closed
