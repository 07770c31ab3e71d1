"""What workers tell comes to whom it concerns; what cannot be told to a worker, or by it, is its end."""

import contextlib
import signal

import pytest

from fdpass.serve.dispatcher.accept.balance import Least
from fdpass.serve.dispatcher.accept.by_dispatcher import ByDispatcher
from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.connections import Connections
from fdpass.serve.dispatcher.dispatcher import Dispatcher
from fdpass.serve.dispatcher.listeners import listen_at
from fdpass.serve.dispatcher.pool import backoff
from fdpass.serve.dispatcher.pool.worker_handle import State, WorkerHandle
from fdpass.serve.shared import messages
from fdpass.serve.shared.config import Config

MUTE = "a worker was started, but the kernel did not take its first message"


class Shop:
    """A dispatcher with one worker that has no process."""

    def __init__(self, staff, **settings):
        self.staff = staff
        self.listeners = listen_at(["127.0.0.1:0"], 16)
        self.settled = []
        self.dispatcher = Dispatcher(
            staff.loop,
            Config(workers=1, **settings),
            self.listeners,
            capacity=10,
            most=10,
            access_log=AccessLog(""),
            settled=self.settled.append,
        )
        self.pool = self.dispatcher.pool

    def start(self):
        self.pool.reconcile()
        (member,) = self.pool.members
        return member

    def end(self, member, status=-signal.SIGKILL):
        member.child.end(status)
        self.staff.go_until(lambda: member.state is State.GONE)

    def says(self, member, data):
        """The worker sends this, and it is heard."""
        assert self.staff.desk(member).out.send_now(data, ())
        self.staff.go()

    def close(self):
        for member in self.pool.members:
            member.child.end(0)
        self.dispatcher.close()
        for each in self.listeners:
            each.close()


@pytest.fixture
def shop(staff):
    with contextlib.ExitStack() as held:
        yield lambda **settings: held.enter_context(contextlib.closing(Shop(staff, **settings)))


def test_a_worker_that_cannot_be_told_what_to_do_has_failed_at_once(shop, monkeypatch, caplog):
    monkeypatch.setattr(WorkerHandle, "send", lambda *_: False)
    one = shop()
    member = one.start()
    assert member.child.signals == [signal.SIGKILL]
    one.end(member)
    assert one.pool.trouble == MUTE
    assert one.pool.trouble in caplog.text
    assert one.pool.members == []  # the next is not started before its time


def test_a_worker_that_cannot_be_told_is_tried_again(shop, staff, monkeypatch):
    monkeypatch.setattr(backoff, "_FIRST", 0.001)
    one = shop()
    with monkeypatch.context() as patch:
        patch.setattr(WorkerHandle, "send", lambda *_: False)
        one.end(one.start())
    staff.go_until(lambda: one.pool.members)
    (member,) = one.pool.members
    one.says(member, messages.READY)
    assert (member.state, one.pool.trouble) == (State.READY, "")


def test_a_reload_whose_worker_cannot_be_told_is_refused(shop, monkeypatch):
    one = shop()
    one.says(one.start(), messages.READY)
    outcomes = []
    with monkeypatch.context() as patch:
        patch.setattr(WorkerHandle, "send", lambda *_: False)
        one.pool.reload(Config(workers=1), AccessLog(""), outcomes.append)
    one.end(one.pool.members[1])
    assert outcomes == [MUTE]
    assert one.pool.current.number == 1


def test_a_worker_says_that_it_is_ready_and_that_it_leaves(shop):
    one = shop()
    member = one.start()
    one.says(member, messages.READY)
    assert member.state is State.READY
    assert one.settled[-1] is one.pool
    one.says(member, messages.LEAVING)
    assert member.outgoing


def test_a_worker_says_why_it_does_not_start(shop):
    one = shop()
    member = one.start()
    one.says(member, messages.FAILED + b'{"sentence": "no database", "final": true}')
    one.end(member, 1)
    assert one.pool.hopeless == "no database"


WAYS = {"passing": {"custody": "off"}, "custody": {}, "turning": {"accept": "worker"}}
SLOTS = messages.with_slots(b"", [0])


@pytest.mark.parametrize(
    ("way", "data"),
    [
        *((way, b"?") for way in WAYS),
        *((way, b"") for way in WAYS),
        *((way, messages.RETURNED + SLOTS) for way in ("passing", "turning")),
        *((way, messages.moved(0, b"GET")) for way in ("passing", "turning")),
        *((way, messages.ACCEPTED + SLOTS) for way in ("passing", "custody")),
    ],
)
def test_a_word_that_is_none_in_this_way_of_accepting_is_the_workers_end(shop, caplog, way, data):
    one = shop(**WAYS[way])
    member = one.start()
    one.says(member, messages.READY)
    one.says(member, data)
    assert signal.SIGKILL in member.child.signals
    assert "it sent a message of an unknown kind" in caplog.text


@pytest.mark.parametrize(
    ("way", "data", "why"),
    [
        *((way, messages.FINISHED + SLOTS, "the end of a connection that it does not have") for way in WAYS),
        *((way, messages.DROPPED + SLOTS, "a connection that it does not have") for way in WAYS),
        *((way, messages.FINISHED + b"abc", "ends within a number") for way in WAYS),
        ("custody", messages.RETURNED + SLOTS, "it gives back a connection that it does not have"),
        ("custody", messages.moved(0, b"GET"), "it gives back a connection that it does not have"),
        ("turning", messages.ACCEPTED + SLOTS, "it accepted without having a turn"),
    ],
)
def test_a_word_that_cannot_be_true_is_the_workers_end(shop, caplog, way, data, why):
    one = shop(**WAYS[way])
    member = one.start()
    one.says(member, messages.READY)
    one.says(member, data)
    assert signal.SIGKILL in member.child.signals
    assert why in caplog.text


def test_ends_that_a_worker_notes_are_seen_although_its_predecessor_noted_as_many(staff):
    books = Connections(10)
    passing = ByDispatcher(staff.loop, [], books, staff.ledger, Least(), 10, custody=None)
    for _ in range(2):
        member = staff.hire(0)
        passing.add(member)
        slot = books.accept()
        books.hand([slot], 0)
        member.live = 1
        staff.ledger.note(0, slot)
        passing.hear()
        assert (books.live, member.live) == (0, 0)
        passing.remove(member)
        passing.gone(member)
