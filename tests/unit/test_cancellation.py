"""Cancellation of an `AsyncChannel` at any await loses no descriptor and no message, and splits none."""

import socket

import anyio
import pytest
from anyio.lowlevel import checkpoint

from fdpass import AsyncChannel, Closed
from fdpass.testing.conformance import some_files

from ._channels import LOOPS, either_way, every_loop, every_type

# Messages of one frame, of many frames or a memfd, and one that fills the socket.
MESSAGES = [(10, 0), (0, 3), (70_000, 2), (400_000, 300), (1, 1)] * 6


class CancelledAt:
    """An awaitable that runs a coroutine, and cancels the scope when the coroutine waits for the n-th time."""

    def __init__(self, coroutine, scope, n):
        self.coroutine, self.scope, self.left = coroutine, scope, n

    def __await__(self):
        inner = self.coroutine.__await__()
        resume, value = inner.send, None
        while True:
            try:
                waited_for = resume(value)
            except StopIteration as end:
                return end.value
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()
            try:
                value, resume = (yield waited_for), inner.send
            except BaseException as error:
                value, resume = error, inner.throw


async def cancelled_at(coroutine, n):
    """Cancel a coroutine when it waits for the n-th time: (False, None); (True, result) if it ends before."""
    with anyio.CancelScope() as scope:
        return True, await CancelledAt(coroutine, scope, n)
    return False, None


def run(loop, function):
    backend, options = LOOPS[loop]

    async def bounded():
        with anyio.fail_after(50):
            await function()

    anyio.run(bounded, backend=backend, backend_options=options)


def numbered(number, size):
    return b"%08d" % number + bytes(size)


@every_loop
@every_type
@either_way
def test_a_cancelled_recv_loses_no_message(loop, kind, acknowledged):
    """However often recv is cancelled, wherever it waits, every message arrives once, whole and in order."""

    async def main():
        left, right = AsyncChannel.pair(kind, acknowledged=acknowledged, max_fds=1000)
        with some_files(300) as files:
            async with left, right, anyio.create_task_group() as tasks:

                async def send():
                    for number, (size, count) in enumerate(MESSAGES):
                        await left.send(numbered(number, size), files[:count])

                tasks.start_soon(send)
                for number, (size, count) in enumerate(MESSAGES):
                    done, n = False, 0
                    while not done:
                        n += 1
                        done, message = await cancelled_at(right.recv(), n % 4)  # 0 does not cancel
                        await checkpoint()
                    with message:
                        assert message.data == numbered(number, size)
                        assert len(message) == count

    run(loop, main)


@every_loop
@every_type
@either_way
def test_a_cancelled_send_leaves_the_given_descriptors_with_the_sender(loop, kind, acknowledged):
    """The channel stays usable, and the messages that were not cancelled arrive in order."""

    async def main():
        left, right = AsyncChannel.pair(kind, acknowledged=acknowledged, max_fds=1000)
        sent, received, last = [], [], len(MESSAGES) - 1

        async def receive():
            async for message in right:
                with message:
                    number = int(message.data[:8])
                    size, count = MESSAGES[number]
                    assert message.data == numbered(number, size)
                    assert len(message) == count
                    received.append(number)

        with some_files(300) as files:
            async with right, anyio.create_task_group() as tasks:
                tasks.start_soon(receive)
                async with left:
                    for number, (size, count) in enumerate(MESSAGES[:-1]):
                        given = [fd.dup() for fd in files[:count]]
                        done, _ = await cancelled_at(
                            left.send(numbered(number, size), given, give=True), 1 + number // 5 % 4
                        )
                        assert all(fd.closed == done for fd in given)
                        for fd in given:
                            fd.close()
                        if done:
                            sent.append(number)
                    await left.send(numbered(last, MESSAGES[last][0]), files[: MESSAGES[last][1]])
                    sent.append(last)
        # A cancelled message whose last frame was sent may have arrived too, whole and in its place.
        assert [number for number in received if number in sent] == sent
        assert sorted(set(received)) == received

    run(loop, main)


@every_loop
@every_type
def test_recv_in_a_cancelled_scope_loses_no_message(loop, kind):
    """A message is either returned, or still in the channel."""

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
def test_closing_the_channel_wakes_the_tasks_that_wait(loop, kind):
    """recv and send raise Closed in the tasks that wait in them, and no socket stays registered in the loop."""

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
def test_messages_reach_the_other_receivers_when_one_is_cancelled(loop):
    """The task that reads for all is cancelled, and another one takes over."""

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


def test_a_channel_of_a_blocking_socket_does_not_block_the_loop():
    """The channel waits in the event loop, not in recvmsg."""

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
    """No event loop runs, and no task waits for the socket."""
    ends = []

    async def main():
        ends.extend(AsyncChannel.pair())

    run(loop, main)
    for end in ends:
        end.close()
        assert end.closed
