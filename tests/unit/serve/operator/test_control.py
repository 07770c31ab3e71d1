"""The control socket: whatever a client sends or does not read, the server replies, or disconnects that client."""

import contextlib
import errno
import json
import os
import pathlib
import socket
import stat
import threading

import pytest

from fdpass._keep.client import ask as ask_keep
from fdpass._keep.client import connected
from fdpass._listening import connect
from fdpass._supervision.loop import Loop
from fdpass.errors import AddressInUse, CallFailed, NotFound, NotListening, PeerClosed, RequestFailed
from fdpass.serve.operator.client import ask
from fdpass.serve.operator.control import ControlServer, bound
from fdpass.testing import full_table

MOST = 64


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "control")


class Server:
    """A `ControlServer` with its loop, and commands for the tests."""

    def __init__(self, path):
        self.loop = Loop()
        self.later = []  # replies to send later
        self.calls = 0
        acts = {
            "echo": lambda request, reply: reply({"ok": True, "said": request["text"]}),
            "refuse": lambda _, reply: reply({"ok": False, "error": "it cannot be done"}),
            "later": lambda _, reply: self.later.append(reply),
            "close": lambda _, reply: self.control.close(),
            "huge": lambda _, reply: reply({"ok": True, "text": "x" * 2_000_000}),
        }
        self.control = ControlServer(self.loop, path, acts)

    def go(self):
        """Run the loop until everything that has happened so far is handled."""
        for _ in range(6):  # a client is accepted, then each of its messages has a turn of its own
            self.loop.call_later(0, self.loop.stop)
            self.loop.run()

    def close(self):
        self.control.close()
        self.loop.close()


@pytest.fixture
def server(path):
    with contextlib.closing(Server(path)) as server:
        yield server


@pytest.fixture
def client(server, path):
    with connect(path) as client:
        client.settimeout(60)
        yield client


def answer(server, client, request):
    client.send(request if isinstance(request, bytes) else json.dumps(request).encode())
    server.go()
    return json.loads(client.recv().data)


REFUSED = {"ok": False, "error": "fdpass serve of this version does not know this request", "by": "fdpass serve"}


def test_the_socket_has_mode_0600_and_is_removed_at_the_end(path):
    server = Server(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    server.close()
    assert not os.path.exists(path)


def test_a_request_is_answered(server, client):
    assert answer(server, client, {"do": "echo", "text": "ü"}) == {"ok": True, "said": "ü"}
    assert answer(server, client, {"do": "refuse"}) == {"ok": False, "error": "it cannot be done"}


def test_several_requests_over_one_connection_are_answered_in_order(server, client):
    for n in range(3):
        client.send(json.dumps({"do": "echo", "text": n}).encode())
    server.go()
    assert [json.loads(client.recv().data)["said"] for _ in range(3)] == [0, 1, 2]


GARBAGE = [
    b"",
    b"\xff\xfe",
    b"GET / HTTP/1.1\r\n\r\n",
    b"null",
    b"[]",
    b'"do"',
    b"5",
    b"{}",
    b'{"do": "nonsense"}',
    b'{"do": ["echo"]}',
    b'{"do": null}',
    b'{"do": "echo", "text": ',
    b"[" * 60_000,
    b'{"a":' * 12_000,
]


@pytest.mark.parametrize("data", GARBAGE, ids=lambda data: repr(data[:30]))
def test_garbage_is_refused_and_only_its_sender_disconnected(server, client, path, data):
    assert answer(server, client, data) == REFUSED
    with pytest.raises(PeerClosed):
        client.recv()
    with connect(path) as other:
        assert answer(server, other, {"do": "echo", "text": 1})["said"] == 1


def test_a_client_that_speaks_another_protocol_is_disconnected(server, path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as raw:
        raw.settimeout(60)
        raw.connect(path)
        raw.send(b"GET / HTTP/1.1\r\n\r\n")
        server.go()
        while raw.recv(4096):
            pass
    server.go()


def test_a_request_that_is_too_long_is_refused(server, client):
    assert answer(server, client, json.dumps({"do": "echo", "text": "x" * 70_000}).encode()) == REFUSED


def test_a_client_that_sends_descriptors_does_no_harm(server, client):
    """If the kernel does not refuse them (SO_PASSRIGHTS), they are closed, and their sender is disconnected."""
    with contextlib.suppress(OSError):
        client.send(b'{"do": "echo", "text": 1}', [0])
    server.go()


def test_a_reply_may_come_later_and_in_any_order(server, path):
    with connect(path) as first, connect(path) as second:
        for client in (first, second):
            client.send(b'{"do": "later"}')
            server.go()
        server.later[1]({"ok": True, "n": 2})
        server.later[0]({"ok": True, "n": 1})
        assert json.loads(first.recv().data)["n"] == 1
        assert json.loads(second.recv().data)["n"] == 2


def test_a_client_that_disconnects_before_its_reply_does_no_harm(server, path):
    with connect(path) as client:
        client.send(b'{"do": "later"}')
        server.go()
    with connect(path) as next:  # before the server has seen that the first has gone, and after
        server.later[0]({"ok": True})
        server.go()
        server.later[0]({"ok": True})
        assert answer(server, next, {"do": "echo", "text": 1})["said"] == 1


def test_a_client_above_the_limit_is_disconnected_until_another_leaves(server, path):
    """The client above the limit is told so; once another client leaves, there is room again."""
    clients = [connect(path)]
    for _ in range(MOST):
        server.go()
        clients.append(connect(path))
    server.go()
    told = json.loads(clients[-1].recv().data)
    assert (told["ok"], told["error"]) == (False, f"{path} has {MOST} clients already")
    with pytest.raises(PeerClosed):
        clients[-1].recv()
    clients[0].close()
    server.go()
    with connect(path) as client:
        server.go()
        assert answer(server, client, {"do": "echo", "text": 1})["said"] == 1
    for client in clients:
        client.close()


def test_a_request_can_close_the_server(server, client):
    client.send(b'{"do": "close"}')
    server.go()
    with pytest.raises(PeerClosed):
        client.recv()


def test_a_long_reply_arrives_whole(server, client):
    assert len(answer(server, client, {"do": "huge"})["text"]) == 2_000_000


def test_a_client_that_does_not_read_its_replies_is_disconnected(server, client):
    client.settimeout(0)
    with contextlib.suppress(PeerClosed, BlockingIOError):
        while True:
            client.send(json.dumps({"do": "echo", "text": "x" * 60_000}).encode())
            server.go()
    client.settimeout(60)
    with pytest.raises(PeerClosed):
        while client.recv():
            pass


def test_a_full_descriptor_table_pauses_accepting_without_a_busy_loop(server, path, monkeypatch):
    """The client waits in the backlog; the server tries ten times a second, because no event reports room."""
    with connect(path) as client:
        accepts = []
        real = server.control._on_client
        server.loop.unwatch(server.control._sock.fileno())
        server.loop.watch(server.control._sock.fileno(), lambda: accepts.append(1) or real())
        with full_table():
            for _ in range(20):
                server.go()
        assert len(accepts) < 5
        client.send(b'{"do": "echo", "text": 1}')
        answers = []
        thread = threading.Thread(target=lambda: answers.append(client.recv()))
        thread.start()
        while thread.is_alive():
            server.loop.call_later(0.01, server.loop.stop)
            server.loop.run()
        assert json.loads(answers[0].data)["said"] == 1


def test_the_socket_of_another_server_is_not_replaced(server, client, path):
    loop = Loop()
    with pytest.raises(AddressInUse, match=f"another server has the control socket {path}: .*--control PATH"):
        ControlServer(loop, path, {})
    loop.close()
    assert answer(server, client, {"do": "echo", "text": 1})["said"] == 1


# The command's side


@pytest.fixture
def serving(server):
    """The server's loop runs in a thread."""
    thread = threading.Thread(target=server.loop.run)
    wake, sleep = socket.socketpair()
    server.loop.watch(sleep.fileno(), server.loop.stop)
    thread.start()
    yield server
    wake.close()
    thread.join()
    server.loop.unwatch(sleep.fileno())
    sleep.close()


@pytest.mark.parametrize("make", [pathlib.Path.touch, pathlib.Path.mkdir, os.mkfifo])
def test_another_kind_of_file_is_named_and_stays(path, make):
    make(pathlib.Path(path))
    with pytest.raises(AddressInUse, match=f"--control {path}: the file exists, and is no socket"):
        bound(path)
    assert os.path.exists(path)


def test_ask_returns_the_reply_without_its_ok(serving, path):
    assert ask(path, "echo", text="hello") == {"said": "hello"}


def test_ask_raises_the_sentence_of_a_refusal(serving, path):
    with pytest.raises(RequestFailed, match="it cannot be done"):
        ask(path, "refuse")
    with pytest.raises(RequestFailed, match="fdpass serve of this version does not know this request"):
        ask(path, "nonsense")


def test_a_command_for_fdpass_keep_is_refused_in_a_sentence(serving, path):
    with (
        connected(path) as channel,
        pytest.raises(RequestFailed, match="this is the control socket of fdpass serve, not of fdpass keep: "),
    ):
        ask_keep(channel, "list")


def test_ask_fails_if_the_server_ends_before_it_replies(serving, path):
    with pytest.raises(PeerClosed, match="the server ended before it answered"):
        ask(path, "close")


def test_ask_fails_if_no_server_listens(path):
    with pytest.raises(
        NotFound, match=f"no server answers at {path}: start one, or give its control socket with --control"
    ):
        ask(path, "status")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(path)
        with pytest.raises(NotListening, match=f"no server answers at {path}"):
            ask(path, "status")


def test_a_control_socket_that_cannot_be_made_is_named_with_its_option(tmp_path, monkeypatch):
    """As in a container whose file system is read-only."""

    def fail(self, address):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with pytest.raises(NotFound, match=f"the control socket: .*no folder {tmp_path}/none; give another path with"):
        bound(str(tmp_path / "none" / "control"))
    monkeypatch.setattr(socket.socket, "bind", fail)
    words = f"the control socket: cannot listen at {tmp_path}/control: Read-only file system; "
    with pytest.raises(CallFailed, match=words + "give another path with --control"):
        bound(str(tmp_path / "control"))
