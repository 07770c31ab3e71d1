"""WebSockets whose worker is killed: what each goes on with, in each state that its messages can be in."""

import contextlib
import json
import os
import signal

import pytest

from ._websockets import BINARY, CLOSE, PING, PONG, TEXT, WebSocket, frame, live, open_websocket  # noqa: F401 - fixtures

pytest.importorskip("websockets")
RESTART = 1012


def about(client):
    """What the application says of itself. It has asked for the next message by then."""
    told = json.loads(client.ask("about"))
    client.settle()
    return told


def again(noted, text):
    """Wait until the text was noted; returns the worker."""
    return noted.wait(text.replace(" ", "_"))


@pytest.mark.parametrize(
    ("loop", "unix", "websockets"),
    [
        ("asyncio", False, ""),
        ("uvloop", False, "wsproto"),
        ("asyncio", True, "websockets"),
        ("uvloop", True, ""),
    ],
)
def test_idle_websockets_go_on_one_death_after_the_other(live, open_websocket, loop, unix, websockets, tmp_path):
    if websockets == "wsproto":
        pytest.importorskip("wsproto")
    path = str(tmp_path / "sock")
    bind = (f"unix:{path}",) if unix else ("127.0.0.1:0",)
    server, _ = live("--loop", loop, websockets=websockets, bind=bind)
    clients = [open_websocket(server, address=path if unix else None) for _ in range(4)]
    told = [about(client) for client in clients]
    assert {each["resumed"] for each in told} == {0}
    for _ in range(2):
        for pid in server.workers():
            server.kill_worker(pid)
        before, told = told, [about(client) for client in clients]
        for old, new in zip(before, told, strict=True):
            assert new["pid"] != old["pid"]
            assert new["resumed"] > old["resumed"]
            assert (new["client"], new["slot"]) == (old["client"], old["slot"])
            assert (new["attempt"], new["state"]) == (0, "")
    for client in clients:
        client.say((1000).to_bytes(2), CLOSE)
        assert client.hear() == 1000
        assert client.is_closed()
    server.wait_connections(accepted=4, live=0, finished=4, lost=0)


@pytest.mark.parametrize("parts", ["half a frame", "half a message", "a fragment and half a header"])
def test_what_was_read_of_a_message_is_not_lost(live, open_websocket, parts):
    server, _ = live()
    client = open_websocket(server)
    killed = about(client)["pid"]
    whole = {
        "half a frame": frame("echo " + "x" * 200),
        "half a message": frame("echo", first=0) + frame(" two", 0),
        "a fragment and half a header": frame("echo", first=0) + frame("y" * 300, 0),
    }[parts]
    cut = {"half a frame": 100, "half a message": 10, "a fragment and half a header": 12}[parts]
    client.sock.sendall(whole[:cut])
    server.wait_read(client)
    server.kill_worker(killed)
    client.sock.sendall(whole[cut:])
    assert client.hear().startswith("echo")
    assert about(client)["pid"] != killed


def test_messages_that_the_application_was_not_given_come_in_the_next_worker(live, open_websocket):
    """The application has accepted, and has asked for no message yet."""
    server, noted = live()
    client = open_websocket(server, "/ws/late")
    killed = noted.wait("waits")
    for number in range(3):
        client.say(f"echo {number}")
    server.wait_read(client)
    server.kill_worker(killed)
    noted.wait("waits", 2)
    (server.folder / "open").touch()
    assert [client.hear() for _ in range(3)] == ["echo 0", "echo 1", "echo 2"]


@pytest.mark.parametrize("websockets", ["", "websockets", "wsproto"])
def test_control_frames_that_no_worker_has_answered_are_answered_by_the_next(
    live, open_websocket, tools, websockets
):
    if websockets == "wsproto":
        pytest.importorskip("wsproto")
    server, _ = live(websockets=websockets)
    client = open_websocket(server)
    killed = about(client)["pid"]
    with tools.stopped(killed):
        client.say("are you there", PING)
        client.say("echo one")
        server.kill_worker(killed)
    assert client.hear_frame() == (0x80 | PONG, b"are you there")
    assert client.hear() == "echo one"
    killed = about(client)["pid"]
    with tools.stopped(killed):
        client.say((4321).to_bytes(2) + b"bye", CLOSE)
        server.kill_worker(killed)
    assert client.hear() == 4321
    assert client.is_closed()


@pytest.mark.parametrize(
    ("path", "text", "heard"),
    [
        ("/ws", "hang", [RESTART]),
        ("/ws/redeliver", "hang", ["hang"]),
        ("/ws/commit", "hang", ["hang"]),
        ("/ws", "part", ["a part", RESTART]),
        ("/ws/redeliver", "part", ["a part", "a part", "part"]),
        ("/ws/commit", "part", ["a part", "part"]),
        ("/ws", "answer", ["answer", RESTART]),
        ("/ws/redeliver", "answer", ["answer", "answer"]),
        ("/ws/commit", "answer", ["answer"]),
    ],
)
def test_a_message_that_the_application_is_not_done_with(live, open_websocket, path, text, heard):
    """By default the client is told to connect again; with `redeliver` the message comes again, once per commit.

    The next message, which was read by then, comes after it.
    """
    server, noted = live()
    client = open_websocket(server, path)
    client.say(text)
    client.say("echo next")
    killed = again(noted, text)
    before = {"hang": 0, "part": 1, "answer": 1}[text]
    found = [client.hear() for _ in range(before)]
    server.wait_read(client)
    server.kill_worker(killed)
    found += [client.hear() for _ in range(len(heard) - before)]
    if path == "/ws/commit" and text == "part":
        # The commit was with the first part, so the message does not come again, and its rest is lost with it.
        assert found == ["a part", "echo next"]
        return
    assert found == heard
    if heard[-1] == RESTART:
        assert client.is_closed()
        assert [noted for noted, _ in noted.lines()].count(text) == 1
        assert "told to connect again: its worker died during a stream, with a message" in server.log()
    else:
        assert client.hear() == "echo next"
        assert client.ask("echo last") == "echo last"
