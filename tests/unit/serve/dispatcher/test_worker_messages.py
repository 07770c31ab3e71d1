"""Messages of workers reach the pool or the acceptor; a worker whose messages cannot be true is killed."""

import contextlib
import signal

import pytest

from fdpass._memory import mapped
from fdpass._supervision import backoff
from fdpass.serve.dispatcher.accept.balance import Least
from fdpass.serve.dispatcher.accept.by_dispatcher import ByDispatcher
from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.dispatcher import Dispatcher
from fdpass.serve.dispatcher.listeners import listen_at
from fdpass.serve.dispatcher.passing import Passing
from fdpass.serve.dispatcher.pool.worker_handle import State, WorkerHandle
from fdpass.serve.dispatcher.recovery import Action, Decision
from fdpass.serve.keeper.estate import Estate
from fdpass.serve.shared import messages
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.slots import BASE, slot_of

from .._estates import connections_of

NOT_TAKEN = "a worker was started, but the kernel did not take its first message"


class DispatcherCase:
    """A dispatcher with one worker that has no process."""

    def __init__(self, fakes, **settings):
        self.fakes = fakes
        self.listeners = listen_at(["127.0.0.1:0"], 16)
        self.changed = []
        self.dispatcher = Dispatcher(
            fakes.loop,
            Config(workers=1, **settings),
            self.listeners,
            capacity=10,
            estate=Estate.private(10),
            access_log=AccessLog(""),
            workers_changed=self.changed.append,
        )
        self.pool = self.dispatcher.pool

    def start(self):
        self.pool.reconcile()
        (worker,) = self.pool.workers
        return worker

    def end(self, worker, status=-signal.SIGKILL):
        worker.child.end(status)
        self.fakes.run_until(lambda: worker.state is State.GONE)

    def report(self, worker, data):
        """The worker sends this message, and the dispatcher reads it."""
        assert self.fakes.worker_end(worker).out.send_now(data, ())
        self.fakes.run_loop()

    def close(self):
        for worker in self.pool.workers:
            worker.child.end(0)
        self.dispatcher.close()
        for each in self.listeners:
            each.close()


@pytest.fixture
def new_dispatcher(fakes):
    """``new_dispatcher(**settings)``: a `DispatcherCase`, closed at the end of the test."""
    with contextlib.ExitStack() as held:
        yield lambda **settings: held.enter_context(contextlib.closing(DispatcherCase(fakes, **settings)))


def test_a_worker_whose_set_up_cannot_be_sent_counts_as_a_failed_start(new_dispatcher, monkeypatch):
    monkeypatch.setattr(WorkerHandle, "send", lambda *_: False)
    case = new_dispatcher()
    worker = case.start()
    assert worker.child.signals == [signal.SIGKILL]
    case.end(worker)
    assert case.pool.starts.given_up == NOT_TAKEN
    assert case.pool.workers == []


def test_a_start_whose_set_up_could_not_be_sent_is_tried_again(new_dispatcher, fakes, monkeypatch, caplog):
    monkeypatch.setattr(backoff, "_FIRST", 0.001)
    case = new_dispatcher()
    served = case.start()
    case.report(served, messages.READY)
    with monkeypatch.context() as patch:
        patch.setattr(WorkerHandle, "send", lambda *_: False)
        case.end(served)
        case.end(case.pool.workers[0])
    assert caplog.text.count(NOT_TAKEN) == 1
    fakes.run_until(lambda: case.pool.workers)
    (worker,) = case.pool.workers
    case.report(worker, messages.READY)
    assert (worker.state, case.pool.starts.failure) == (State.READY, "")


def test_a_reload_whose_set_up_cannot_be_sent_fails(new_dispatcher, monkeypatch):
    case = new_dispatcher()
    case.report(case.start(), messages.READY)
    outcomes = []
    with monkeypatch.context() as patch:
        patch.setattr(WorkerHandle, "send", lambda *_: False)
        case.pool.reload(Config(workers=1), AccessLog(""), outcomes.append)
    case.end(case.pool.workers[1])
    assert outcomes == [NOT_TAKEN]
    assert case.pool.current.number == 1


def test_ready_and_leaving_reach_the_pool(new_dispatcher):
    case = new_dispatcher()
    worker = case.start()
    case.report(worker, messages.READY)
    assert worker.state is State.READY
    assert case.changed[-1] is case.pool
    case.report(worker, messages.LEAVING)
    assert worker.to_retire


def test_the_reason_in_failed_reaches_the_pool(new_dispatcher):
    case = new_dispatcher()
    worker = case.start()
    case.report(worker, messages.FAILED + b'{"sentence": "no database"}')
    case.end(worker, 1)
    assert case.pool.starts.given_up == "no database"


WAYS = {"custody": {}, "custody off": {"custody": "off"}, "accept by worker": {"accept": "worker"}}
SLOTS = messages.with_slots(b"", [0])


@pytest.mark.parametrize(
    ("way", "data"),
    [
        *((way, b"?") for way in WAYS),
        *((way, b"") for way in WAYS),
        *((way, messages.RETURNED + SLOTS) for way in ("custody off", "accept by worker")),
        *((way, messages.moved(0, b"GET")) for way in ("custody off", "accept by worker")),
        *((way, messages.ACCEPTED + SLOTS) for way in ("custody", "custody off")),
    ],
)
def test_a_worker_that_sends_a_message_of_an_unexpected_kind_is_killed(new_dispatcher, caplog, way, data):
    case = new_dispatcher(**WAYS[way])
    worker = case.start()
    case.report(worker, messages.READY)
    case.report(worker, data)
    assert signal.SIGKILL in worker.child.signals
    assert "it sent a message of an unknown kind" in caplog.text


@pytest.mark.parametrize(
    ("way", "data", "why"),
    [
        *((way, messages.FINISHED + SLOTS, "the end of a connection that it does not have") for way in WAYS),
        *((way, messages.DROPPED + SLOTS, "a connection that it does not have") for way in WAYS),
        *((way, messages.FINISHED + b"abc", "ends within a number") for way in WAYS),
        ("custody", messages.RETURNED + SLOTS, "it gives back a connection that it does not have"),
        ("custody", messages.moved(0, b"GET"), "it gives back a connection that it does not have"),
        ("accept by worker", messages.ACCEPTED + SLOTS, "it accepted without having a turn"),
    ],
)
def test_a_worker_that_sends_a_message_that_cannot_be_true_is_killed(new_dispatcher, caplog, way, data, why):
    case = new_dispatcher(**WAYS[way])
    worker = case.start()
    case.report(worker, messages.READY)
    case.report(worker, data)
    assert signal.SIGKILL in worker.child.signals
    assert why in caplog.text


def test_ends_are_read_though_the_rows_previous_worker_noted_as_many(fakes):
    connections = connections_of(10)
    passing = Passing(Estate.private(10))
    acceptor = ByDispatcher(fakes.loop, [], connections, fakes.ledger, Least(), 10, custody=None, passing=passing)
    for _ in range(2):
        worker = fakes.make(0)
        acceptor.add(worker)
        slot = connections.accept()
        connections.hand([slot], 0)
        fakes.ledger.note(0, slot)
        acceptor.read_ended()
        assert (connections.live, connections.live_of[0]) == (0, 0)
        acceptor.remove(worker)
        acceptor.recover(worker)


def test_bytes_that_were_handed_on_with_a_connection_are_forgotten_while_it_lasts(new_dispatcher):
    case = new_dispatcher()
    custody = case.dispatcher.custody
    words = memoryview(mapped(custody.memory)).cast("q")
    custody.handed_on.prepare(0, slot_of(words, 0), Decision(Action.REPLAY, 7, 0), b"half a request")
    case.dispatcher._check()
    words[BASE] = 21
    assert len(custody.handed_on) == 1
    case.fakes.run_until(lambda: not custody.handed_on)
