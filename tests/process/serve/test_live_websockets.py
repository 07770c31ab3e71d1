"""WebSockets whose worker is killed: what each goes on with, in each state that its messages can be in."""

import contextlib
import zlib

import pytest

from ._websockets import CLOSE, PING, PONG, WebSocket, about, frame

pytest.importorskip("websockets")
RESTART = 1012


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
def test_idle_websockets_go_on_one_death_after_the_other(
    live, open_websocket, tmp_path, *, loop, unix, websockets
):
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
    client.sock.sendall(b"".join(frame(f"echo {number}") for number in range(3)))  # uvicorn reads one time only
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


def test_a_message_that_kills_each_worker_is_repeated_once(live, open_websocket):
    server, noted = live()
    client = open_websocket(server, "/ws/redeliver")
    client.say("die")
    assert client.hear() == RESTART
    assert [text for text, _ in noted.lines()].count("die") == 2
    assert "which had been given again already" in server.log()
    server.wait_connections(live=0, lost=1)


def test_a_websocket_whose_application_kills_each_worker_is_given_up_after_four(live, open_websocket):
    server, noted = live()
    client = open_websocket(server, "/ws/again/die")
    server.kill_worker(about(client)["pid"])
    assert client.hear() == RESTART
    called = [text for text, _ in noted.lines() if text.startswith("called-")]
    assert called == ["called-0", "called-1", "called-2", "called-3"]
    assert "with which its last 3 workers have died" in server.log()


@pytest.mark.parametrize("websockets", ["", "websockets", "wsproto"])
def test_an_application_that_goes_on_otherwise_than_it_began(live, open_websocket, websockets):
    if websockets == "wsproto":
        pytest.importorskip("wsproto")
    server, _ = live(websockets=websockets)
    codes = {"reject": 1008, "raise": 1011, "other": RESTART}
    clients = {
        kind: open_websocket(server, f"/ws/again/{kind}", sec_websocket_protocol="one, two") for kind in codes
    }
    for client in clients.values():
        assert "\nsec-websocket-protocol: one" in client.head
        client.settle()
    for pid in server.workers():
        server.kill_worker(pid)
    for kind, client in clients.items():
        assert (kind, client.hear()) == (kind, codes[kind])
        client.say(codes[kind].to_bytes(2), CLOSE)
        assert client.is_closed()
    server.wait_connections(live=0, finished=3, lost=0)


@pytest.mark.parametrize("more", [0, 200_000])
def test_messages_for_a_client_that_does_not_read(live, open_websocket, more):
    """What the kernel has no room for is in shared memory, up to 60 KiB; with more, the death is a reset."""
    server, noted = live()
    client = open_websocket(server, room=4096)
    client.say(f"fill {more}")
    killed = noted.wait("filled")
    server.kill_worker(killed)
    if more:
        assert client.is_reset()
        assert "cut: its worker died in the middle of a message" in server.log()
        return
    count = 0
    while (text := client.hear()) != "full":
        assert text == f"{count:010000d}"
        count += 1
    assert count > 0
    assert client.ask("echo on") == "echo on"


@pytest.mark.parametrize("path", ["/ws/gate", "/other/gate"])
def test_a_handshake_that_is_not_answered_yet_is_repeated_in_another_worker(live, open_websocket, path):
    """So is that of a WebSocket that ends with its worker later."""
    server, noted = live()
    client = WebSocket(server.address, path)
    with contextlib.closing(client):
        killed = noted.wait("waits")
        server.kill_worker(killed)
        noted.wait("waits", 2)
        (server.folder / "open").touch()
        client.opened()
        told = about(client)
        assert told["pid"] != killed
        if path == "/ws/gate":
            assert (told["resumed"], told["attempt"]) == (0, 0)
            return
        assert "resumed" not in told
        server.kill_worker(told["pid"])
        assert client.is_closed()
        assert "closed: its worker died, and no other process has its state" in server.log()


def test_a_handshake_that_is_refused_gets_its_whole_answer_and_its_path_may_be_any(live):
    server, noted = live()
    for path in ("/ws/refuse", "/other/refuse"):
        client = WebSocket(server.address, path)
        with contextlib.closing(client):
            assert client.refused() == 403
    assert [text for text, _ in noted.lines()].count("called-0") == 2
    server.wait_connections(accepted=2, finished=2, lost=0)


def test_compression_has_no_context_where_a_websocket_can_be_resumed(live, open_websocket):
    server, noted = live()
    offer = {"sec_websocket_extensions": "permessage-deflate; client_max_window_bits"}
    other = open_websocket(server, "/other", **offer)
    assert "permessage-deflate" in other.head
    assert "context_takeover" not in other.head
    client = open_websocket(server, **offer)
    assert "server_no_context_takeover" in client.head
    assert "client_no_context_takeover" in client.head
    compressed = _compressed("echo " + "again and " * 20)
    for _ in range(2):
        client.say(compressed, first=0xC0)
        assert client.hear() == "echo " + "again and " * 20
        server.kill_worker(about(client)["pid"])
    cut = frame(compressed[:10], first=0x40) + frame(compressed[10:], 0)
    client.sock.sendall(cut[:20])
    server.wait_read(client)
    server.kill_worker(noted.lines()[-1][1])
    client.sock.sendall(cut[20:])
    assert client.hear() == "echo " + "again and " * 20


def _compressed(text):
    packer = zlib.compressobj(wbits=-12)
    return (packer.compress(text.encode()) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def test_a_state_and_the_client_behind_a_proxy_go_on(live, open_websocket):
    server, _ = live("--proxy-protocol")
    client = WebSocket(server.address, before=b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\n")
    with contextlib.closing(client):
        client.opened()
        assert client.ask("state one") == "state one"
        assert client.ask("state two") == "state two"
        for _ in range(2):
            told = about(client)
            assert (told["state"], told["client"]) == ("two", ["192.0.2.7", 1234])
            server.kill_worker(told["pid"])
        assert about(client)["resumed"] == 2
