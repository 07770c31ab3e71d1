"""The last lines of the log as objects, and the clients that wait for the next one."""

import logging

import pytest

from fdpass._supervision.loop import Loop
from fdpass.serve.operator.events import MOST, Events
from fdpass.serve.shared.events import Event, about

LOG = logging.getLogger("fdpass.test.events")


class Client:
    """A client of the control socket."""

    def __init__(self, events, **request):
        self.replies = []
        events.request({"do": "events", **request}, self.replies.append)


@pytest.fixture
def loop():
    found = Loop()
    yield found
    found.close()


@pytest.fixture
def events(loop):
    found = Events(loop)
    LOG.setLevel(logging.DEBUG)
    LOG.disabled = False  # as `dictConfig` in another test may have left it
    LOG.addHandler(found)
    yield found
    LOG.removeHandler(found)


def test_events_have_ids_and_the_fields_of_their_lines(events):
    LOG.debug("not kept")
    LOG.info("worker %d is ready", 5, extra=about(Event.WORKER_READY, worker=5, generation=1))
    LOG.warning("text")
    (reply,) = Client(events).replies
    assert (reply["ok"], reply["last"]) == (True, 2)
    first, second = reply["events"]
    assert (
        first.items()
        >= {
            "id": 1,
            "level": "info",
            "event": "worker_ready",
            "worker": 5,
            "generation": 1,
            "message": "worker 5 is ready",
        }.items()
    )
    assert (second["id"], second["event"], "worker" in second) == (2, "other", False)


def test_only_events_behind_after_are_sent_and_only_the_last_ones_are_kept(events):
    for number in range(MOST + 10):
        LOG.info("%d", number)
    assert [event["id"] for event in Client(events).replies[0]["events"]] == list(range(11, MOST + 11))
    assert [event["id"] for event in Client(events, after=MOST + 8).replies[0]["events"]] == [MOST + 9, MOST + 10]


def test_a_client_that_waits_gets_the_next_event_once(events):
    LOG.info("a")
    client = Client(events, after=1, wait=30)
    assert client.replies == []
    LOG.info("b")
    LOG.info("c")
    ((reply),) = client.replies
    assert ([event["message"] for event in reply["events"]], reply["last"]) == (["b"], 2)


def test_a_wait_ends_without_an_event(events, loop):
    client = Client(events, wait=0.01)
    loop.call_later(0.02, loop.stop)
    loop.run()
    assert client.replies == [{"ok": True, "events": [], "last": 0}]


def test_a_client_of_the_server_before_does_not_wait(events):
    """Its ids are higher than those of this server."""
    assert Client(events, after=500, wait=30).replies == [{"ok": True, "events": [], "last": 0}]


def test_clients_that_wait_are_bounded(events):
    clients = [Client(events, wait=30) for _ in range(70)]
    assert [bool(client.replies) for client in clients] == [True] * 6 + [False] * 64


@pytest.mark.parametrize("request_", [{"after": "1"}, {"wait": 31}, {"wait": -1}, {"wait": "x"}, {"after": True}])
def test_a_request_of_nonsense_is_refused(events, request_):
    (reply,) = Client(events, **request_).replies
    assert not reply["ok"]


def test_a_long_message_is_cut(events):
    LOG.error("x" * 100_000)
    assert len(Client(events).replies[0]["events"][0]["message"]) == 2000


def test_the_ids_of_the_next_dispatcher_lie_above(loop):
    later = Events(loop, 1 << 32)
    later.emit(logging.LogRecord("x", logging.INFO, "", 0, "text", (), None))
    (reply,) = Client(later, after=17, wait=5).replies
    assert [event["id"] for event in reply["events"]] == [reply["last"]] == [(1 << 32) + 1]
