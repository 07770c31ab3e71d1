"""WebSockets at a reload and at a stop: each moves when its application is done with what it was given."""

import contextlib

import pytest

from ._websockets import CLOSE, WebSocket, about

pytest.importorskip("websockets")
RESTART = 1012


@pytest.mark.parametrize(("loop", "unix"), [("asyncio", False), ("uvloop", True)])
def test_idle_websockets_move_and_busy_ones_when_they_are_done(live, open_websocket, loop, unix, tmp_path):
    path = str(tmp_path / "sock")
    server, noted = live("--loop", loop, bind=(f"unix:{path}",) if unix else ("127.0.0.1:0",))
    address = path if unix else None
    idle = [open_websocket(server, address=address).settle() for _ in range(10)]
    busy, ahead = open_websocket(server, address=address), open_websocket(server, address=address)
    busy.say("gate")
    busy.say("echo next")
    ahead.say("ahead one")
    ahead.say("ahead two")
    late = WebSocket(address or server.address, "/ws/gate")
    noted.wait("waits", 4)
    with contextlib.closing(late):
        old = set(server.workers())
        server.cli("reload")
        server.wait_status(lambda status: status["connections"]["resumed"] >= 10)
        for client in idle:
            told = about(client)
            assert told["pid"] not in old
            assert (told["resumed"], told["attempt"]) == (1, 0)
        assert [text for text, _ in noted.lines()].count("disconnected-1012") == 10
        noted.wait("send-raised", 10)
        (server.folder / "open").touch()
        late.opened()
        assert [busy.hear(), busy.hear()] == ["gate", "echo next"]
        assert {ahead.hear(), ahead.hear()} == {"ahead one", "ahead two"}
        for client in (busy, ahead, late):
            assert about(client)["resumed"] <= 1
        server.wait_status(lambda status: status["connections"]["resumed"] == 13)
        for client in (busy, ahead, late):
            told = about(client)
            assert told["pid"] not in old
            assert told["resumed"] == 1
        lines = [text for text, _ in noted.lines()]
        assert [lines.count(text) for text in ("gate", "echo_next", "ahead_one", "ahead_two")] == [1, 1, 1, 1]
        server.wait_connections(accepted=13, live=13, lost=0, resumed=13, told_to_reconnect=0)


def test_a_websocket_that_holds_is_not_done_with_what_it_reads_ahead(live, open_websocket):
    """If its worker dies, the client is told to connect again."""
    server, noted = live()
    client = open_websocket(server)
    client.say("ahead one")
    killed = noted.wait("ahead_one")
    client.settle()
    server.kill_worker(killed)
    assert client.hear() == RESTART


def test_after_the_graceful_time_websockets_are_told_to_connect_again(live, open_websocket):
    server, noted = live("--graceful-timeout", "1")
    other, busy = open_websocket(server, "/other"), open_websocket(server)
    busy.say("hang")
    noted.wait("hang")
    server.cli("reload")
    for client in (other, busy):
        assert client.hear() == RESTART
        client.say(RESTART.to_bytes(2), CLOSE)
        assert client.is_closed()


def test_a_path_that_is_not_resumed_any_more(live, open_websocket):
    """The settings are read again at a reload."""
    server, _ = live("--config", "settings.toml", resume=(), files={"settings.toml": 'resume = "/ws"\n'})
    client = open_websocket(server)
    assert about(client)["resumed"] == 0
    (server.folder / "settings.toml").write_text("")
    server.cli("reload")
    assert client.hear() == RESTART
    client.say(RESTART.to_bytes(2), CLOSE)
    assert client.is_closed()


def test_a_stop_tells_all_clients(live, open_websocket):
    server, _ = live()
    clients = [open_websocket(server).settle() for _ in range(3)]
    server.kill_worker(server.workers()[0])
    for client in clients:
        client.settle()
    assert server.stop() == 0
    assert [client.hear() for client in clients] == [RESTART] * 3


@pytest.mark.parametrize("death", [True, False])
def test_many_at_once(live, open_websocket, death):
    """None is lost, and the application is called only some at a time."""
    server, noted = live("--workers", "1", "--max-connections", "1000")
    clients = [open_websocket(server) for _ in range(300)]
    gone, stay = clients[:20], clients[20:]
    for client in stay:
        client.settle()
    (old,) = server.workers()
    if death:
        server.kill_worker(old)
        for client in gone:
            client.close()
    else:
        server.cli("reload")
    for client in stay:
        told = about(client)
        assert (told["pid"] != old, told["resumed"]) == (True, 1)
    lines = [text for text, _ in noted.lines()]
    assert lines.count("called-1") <= 300
    server.wait_connections(lost=0, told_to_reconnect=0)
