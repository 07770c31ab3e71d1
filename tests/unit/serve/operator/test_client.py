"""`ask`: the client asks again where a dispatcher may have died, and says which process has ended."""

import json
import threading

import pytest

from fdpass import listen
from fdpass.errors import PeerClosed, RequestFailed
from fdpass.serve.operator.client import ask

STATUS = {"ok": True, "server": {}}


@pytest.fixture
def control(tmp_path):
    """``path, asked = control(*replies)``: a control socket; None is a dispatcher that dies at the request."""
    threads = []

    def start(*replies):
        listener = listen(str(tmp_path / "control"))
        asked = []

        def serve():
            with listener:
                for reply in replies:
                    with listener.accept() as client:
                        asked.append(json.loads(client.recv().data)["do"])
                        if reply is not None:
                            client.send(json.dumps(reply).encode())

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return str(tmp_path / "control"), asked

    yield start
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("verb", ["status", "events", "scale", "reload"])
def test_what_can_be_repeated_is_asked_again(control, verb):
    path, asked = control(None, STATUS, {"ok": True, "done": 1})
    assert ask(path, verb) == {"done": 1}
    assert asked == [verb, "status", verb]


def test_what_cannot_be_repeated_is_answered_with_what_has_ended(control):
    path, _ = control(None, STATUS)
    with pytest.raises(PeerClosed, match="the dispatcher ended before it answered; the server goes on"):
        ask(path, "retire", pid=1)


def test_a_server_that_has_ended_is_told_from_its_dispatcher(control):
    path, asked = control(None)
    with pytest.raises(PeerClosed, match="the server ended before it answered"):
        ask(path, "reload")
    assert asked == ["reload"]


def test_dispatchers_that_die_again_and_again_are_not_asked_for_ever(control):
    path, asked = control(*[None, STATUS] * 3)
    with pytest.raises(PeerClosed, match="the server goes on"):
        ask(path, "reload")
    assert asked == ["reload", "status"] * 3


def test_a_refusal_is_not_repeated(control):
    path, asked = control({"ok": False, "error": "no"})
    with pytest.raises(RequestFailed, match="no"):
        ask(path, "reload")
    assert asked == ["reload"]
