"""`aio.listen`, `aio.connect` and `AsyncListener`: as the blocking ones, and with tasks and cancellation."""

import errno
import fcntl
import logging
import os

import anyio
import pytest
from anyio.lowlevel import checkpoint

import fdpass
from fdpass import (
    AddressInUse,
    AsyncListener,
    CallFailed,
    Closed,
    InvalidMessage,
    NotFound,
    PeerClosed,
    aio,
)
from fdpass import _sockets as sockets
from fdpass.testing import full_table

from ._channels import LOOPS

pytestmark = pytest.mark.anyio


@pytest.fixture(params=LOOPS.values(), ids=LOOPS)
def anyio_backend(request):
    return request.param


@pytest.mark.parametrize("type_", ["seqpacket", "stream"])
@pytest.mark.parametrize("abstract", [False, True])
async def test_client_and_server_exchange_messages(path, type_, abstract):
    address = f"@fdpass-aio-{os.getpid()}" if abstract else path
    async with await aio.listen(address, type=type_) as listener:
        assert listener.address == address
        async with await aio.connect(address, type=type_) as client, await listener.accept() as server:
            await client.send(b"question")
            assert (await server.recv()).data == b"question"


async def test_a_blocking_client_can_connect(path):
    async with await aio.listen(path) as listener:
        with fdpass.connect(path) as client:
            client.send(b"question")
            async with await listener.accept() as server:
                assert (await server.recv()).data == b"question"


async def test_the_socket_file_exists_as_long_as_the_listener(path):
    async with await aio.listen(path, mode=0o660) as listener:
        assert os.stat(path).st_mode & 0o777 == 0o660
        with pytest.raises(AddressInUse):
            await aio.listen(path)
        await listener.aclose()
        assert not os.path.exists(path)
    assert listener.closed
    assert repr(listener) == "<AsyncListener closed>"


async def test_a_listener_that_did_not_bind_its_socket_leaves_the_file(path):
    with fdpass.listen(path) as owner:
        async with AsyncListener(fdpass.Fd(os.dup(owner.fileno())).socket()) as listener:
            async with await aio.connect(path), await listener.accept():
                pass
        assert os.path.exists(path)


async def test_accept_waits_until_a_client_connects(path):
    async with await aio.listen(path) as listener, anyio.create_task_group() as tasks:

        async def accept():
            async with await listener.accept() as server:
                await server.send(b"welcome")

        tasks.start_soon(accept)
        await checkpoint()
        async with await aio.connect(path) as client:
            assert (await client.recv()).data == b"welcome"


async def test_several_tasks_can_accept_at_the_same_time(path):
    served = []
    async with await aio.listen(path) as listener, anyio.create_task_group() as tasks:

        async def accept(number):
            (await listener.accept()).close()
            served.append(number)

        for number in range(3):
            tasks.start_soon(accept, number)
        for _ in range(3):
            async with await aio.connect(path) as client:
                with pytest.raises(PeerClosed):
                    await client.recv()
    assert sorted(served) == [0, 1, 2]


async def test_closing_the_listener_wakes_waiting_tasks_and_ends_iteration(path):
    ends = []
    async with await aio.listen(path) as listener, anyio.create_task_group() as tasks:

        async def accept():
            with pytest.raises(Closed):
                await listener.accept()
            ends.append("accept")

        async def iterate():
            async for _ in listener:
                pytest.fail("nobody connected")
            ends.append("iteration")

        tasks.start_soon(accept)
        tasks.start_soon(iterate)
        await anyio.wait_all_tasks_blocked()
        listener.close()
        listener.close()
    assert sorted(ends) == ["accept", "iteration"]


async def test_a_cancelled_accept_has_accepted_no_connection(path):
    async with await aio.listen(path) as listener:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listener.accept)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        async with await aio.connect(path) as client:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await listener.accept()
            assert scope.cancelled_caught
            await client.send(b"patient")
            async with await listener.accept() as server:
                assert (await server.recv()).data == b"patient"


async def test_a_refused_connection_is_closed_and_logged(path, caplog):
    asked = []

    def second_only(peer):
        asked.append(peer)
        return len(asked) == 2

    async with (
        await aio.listen(path, allow=second_only) as listener,
        await aio.connect(path) as refused,
        await aio.connect(path) as admitted,
    ):
        await refused.send(b"hello")
        await admitted.send(b"it is me")
        with caplog.at_level(logging.INFO, "fdpass"):
            async with await listener.accept() as server:
                assert (await server.recv()).data == b"it is me"
        with pytest.raises(PeerClosed):
            await refused.recv()
    assert f"refused a connection from pid {os.getpid()}" in caplog.text
    assert all(peer.pidfd is None or peer.pidfd.closed for peer in asked)


async def test_other_tasks_run_while_many_peers_are_refused(path):
    """Each refused connection is at once followed by the next: only a checkpoint lets another task cancel."""
    clients = []

    def rule(_peer):
        if len(clients) < 20:
            clients.append(fdpass.connect(path))
        if len(clients) == 10:
            scope.cancel()
        return False

    async with await aio.listen(path, allow=rule) as listener:
        clients.append(fdpass.connect(path))
        with anyio.CancelScope() as scope:
            await listener.accept()
    for client in clients:
        client.close()
    assert scope.cancelled_caught
    assert len(clients) == 10


async def test_iteration_goes_on_after_a_client_that_has_left(path):
    async with await aio.listen(path) as listener:
        (await aio.connect(path)).close()
        async with await aio.connect(path) as client:
            await client.send(b"here")
            found = []
            async for server in listener:
                async with server:
                    found.append([message.data async for message in server] if not found else await server.recv())
                if len(found) == 2:
                    listener.close()
    assert found[0] == []
    assert found[1].data == b"here"


async def test_with_a_full_descriptor_table_accept_fails_and_the_connection_waits(path):
    async with await aio.listen(path) as listener, await aio.connect(path) as client:
        await client.send(b"patient")
        with full_table(), pytest.raises(CallFailed) as caught:
            await listener.accept()
        assert caught.value.errno == errno.EMFILE
        async with await listener.accept() as server:
            assert (await server.recv()).data == b"patient"


async def test_a_wrong_channel_option_is_an_error_of_listen_and_connect(path):
    with pytest.raises(TypeError):
        await aio.listen(path, max_mesage=1)
    assert not os.path.exists(path)
    async with await aio.listen(path):
        with pytest.raises(InvalidMessage):
            await aio.connect(path, max_fds=-1)


async def test_connect_raises_an_error_for_each_cause(path, tmp_path):
    with pytest.raises(NotFound):
        await aio.connect(tmp_path / "missing")
    with pytest.raises(InvalidMessage):
        await aio.connect("")
    async with await aio.listen(path, type="stream"):
        with pytest.raises(CallFailed, match="of another type"):
            await aio.connect(path)


async def test_connect_waits_while_the_backlog_is_full(path):
    """asyncio's own sock_connect mistakes EAGAIN for "in progress", and returns a socket that is not connected."""

    async def late():
        async with await aio.connect(path) as client:
            await client.send(b"in")

    async with await aio.listen(path, backlog=0) as listener, await aio.connect(path):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(late)
            await anyio.wait_all_tasks_blocked()
            (await listener.accept()).close()
            async with await listener.accept() as server:
                assert (await server.recv()).data == b"in"


async def test_a_connect_that_waits_for_the_backlog_can_be_cancelled(path):
    async with await aio.listen(path, backlog=0), await aio.connect(path):
        with anyio.move_on_after(0.02) as scope:
            await aio.connect(path)
        assert scope.cancelled_caught


def test_a_listener_can_be_closed_after_its_loop_has_ended(path):
    listener = anyio.run(aio.listen, path)
    listener.close()
    assert listener.closed
    assert not os.path.exists(path)


async def test_a_full_descriptor_table_is_a_typed_error(path):
    """Of everything that makes a socket; nothing stays open."""
    async with await aio.listen(path):
        for call in (aio.listen, aio.connect):
            with full_table(), pytest.raises(CallFailed) as caught:
                await call(path)
            assert caught.value.errno == errno.EMFILE


async def test_listen_waits_for_the_lock_of_a_folder_without_stopping_the_loop(stale, monkeypatch):
    """Every process that may read the folder can hold the lock for ever; a cancelled call changes nothing."""
    monkeypatch.setattr(sockets, "_LOCK_MAX", 1000)
    with fdpass.Fd.open(os.path.dirname(stale)) as folder:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with anyio.move_on_after(0.05) as scope:
            await aio.listen(stale)
        assert scope.cancelled_caught
        assert os.path.exists(stale)
        monkeypatch.setattr(sockets, "_LOCK_MAX", 0.05)
        async with await aio.listen(stale) as listener, await aio.connect(stale), await listener.accept():
            pass
