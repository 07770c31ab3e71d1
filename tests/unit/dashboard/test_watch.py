"""Polling: real control sockets, of which one is silent, and one gives nonsense."""

import asyncio
import contextlib
import json

import pytest

from fdpass import aio
from fdpass._dashboard import server as server_module
from fdpass._dashboard.agent_check import serve
from fdpass._dashboard.control import Silent, asking
from fdpass._dashboard.server import Server
from fdpass._dashboard.settings import WatchedServer
from fdpass._dashboard.watch import Watch
from fdpass._supervision.addresses import listen_tcp
from fdpass.errors import RequestFailed

from ._statuses import status


class Control:
    """A control socket that answers as its ``answer`` says; None: it says nothing."""

    def __init__(self, path, answer):
        self.path = path
        self.answer = answer
        self.asked = []

    @contextlib.asynccontextmanager
    async def running(self):
        async with await aio.listen(self.path, max_fds=0) as listener:
            task = asyncio.create_task(self._accept(listener))
            yield self
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _accept(self, listener):
        async with asyncio.TaskGroup() as tasks:
            async for channel in listener:
                tasks.create_task(self._answer(channel))

    async def _answer(self, channel):
        async with channel:
            async for message in channel:
                request = json.loads(message.data)
                self.asked.append(request)
                reply = self.answer(request)
                if reply is None:
                    await asyncio.Event().wait()
                await channel.send(reply if isinstance(reply, bytes) else json.dumps(reply).encode())


def usual(request):
    if request["do"] == "status":
        return {"ok": True, **status()}
    events = [{"id": number, "message": str(number)} for number in range(request["after"] + 1, 4)]
    return {"ok": True, "events": events, "last": 3}


def watched(path, name="shop"):
    return Server(WatchedServer(name, path))


def test_a_poll_asks_for_status_and_new_events(path):
    async def run():
        async with Control(path, usual).running() as control:
            server = watched(path)
            await server.poll()
            await server.poll()
            assert control.asked == [
                {"do": "status"},
                {"do": "events", "after": 0},
                {"do": "status"},
                {"do": "events", "after": 3},
            ]
            assert server.state.name == "serving"
            assert [event["id"] for event in server.events_after(0)] == [1, 2, 3]
            assert [event["id"] for event in server.events_after(2)] == [3]
            assert len(server.samples()) == 2

    asyncio.run(run())


def test_a_restarted_server_is_asked_for_all_its_events(path):
    found = status()

    def answer(request):
        return {"ok": True, **found} if request["do"] == "status" else usual(request)

    async def run():
        async with Control(path, answer).running() as control:
            server = watched(path)
            await server.poll()
            found["server"]["pid"] += 1
            await server.poll()
            assert control.asked[-1] == {"do": "events", "after": 0}
            assert [event["number"] for event in server.events_after(0)] == [1, 2, 3, 4, 5, 6]

    asyncio.run(run())


def test_a_server_without_events_still_has_its_status(path):
    def answer(request):
        return usual(request) if request["do"] == "status" else {"ok": False, "error": "it does not know this"}

    async def run():
        async with Control(path, answer).running():
            server = watched(path)
            await server.poll()
            assert server.status is not None
            assert server.events_after(0) == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda _: None, "the server has not answered within 0.2 s"),
        (lambda _: b"no json", "Expecting value"),
        (lambda _: {"ok": True}, "an answer without"),
        (lambda _: b"[]", "an answer without"),
        (lambda _: {"ok": False, "error": "not now"}, "not now"),
    ],
)
def test_a_server_that_does_not_answer_well_is_silent(path, answer, words, monkeypatch):
    monkeypatch.setattr(server_module, "LIMIT", 0.2)

    async def run():
        async with Control(path, answer).running():
            server = watched(path)
            await server.poll()
            assert (server.status, server.state.name) == (None, "silent")
            assert words in server.state.why
            assert server.record()["sample"] is None

    asyncio.run(run())


def test_no_server_and_a_refused_request_are_told_apart(path):
    async def ask(verb):
        async with asking(path, 5) as question:
            await question(verb)

    async def run():
        with pytest.raises(Silent, match="no server listens at"):
            await ask("status")
        async with Control(path, lambda _: {"ok": False, "error": "not now"}).running():
            with pytest.raises(RequestFailed, match="not now"):
                await ask("status")

    asyncio.run(run())


def test_a_silent_server_holds_up_neither_the_others_nor_the_snapshots(tmp_path):
    """It is asked once until it has answered, however many clients look."""
    paths = [str(tmp_path / name) for name in ("good", "stuck")]

    async def run():
        async with (
            Control(paths[0], usual).running() as good,
            Control(paths[1], lambda _: None).running() as stuck,
        ):
            watch = Watch([watched(paths[0], "good"), watched(paths[1], "stuck")], actions=False)
            polling = asyncio.create_task(watch.run())

            async def look():
                snapshots = watch.snapshots()
                found = [await anext(snapshots) for _ in range(2)]
                return [[server["state"] for server in snapshot.servers] for snapshot in found]

            seen = await asyncio.gather(*(look() for _ in range(20)))
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
            assert seen == [[["serving", "silent"]] * 2] * 20
            assert [request["do"] for request in good.asked].count("status") == 2
            assert len(stuck.asked) == 1

    asyncio.run(run())


def test_the_agent_check_writes_one_line_and_disconnects():
    async def run():
        sock = listen_tcp(2, ("127.0.0.1", 0), 16, "--agent-check 127.0.0.1:0", only_ipv6=True)
        lines = iter(["ready up 75%\n", "drain\n"])
        agent = await serve(sock, lambda: next(lines))
        for expected in (b"ready up 75%\n", b"drain\n"):
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            assert await reader.read() == expected
            writer.close()
            await writer.wait_closed()
        agent.close()
        await agent.wait_closed()

    asyncio.run(run())
