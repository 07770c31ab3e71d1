"""What a notification does, in memory: the store, the state, the relay."""

import contextlib
import os
import types

import pytest

from fdpass import Fd, Message
from fdpass._keep import protocol as protocols
from fdpass._keep.protocol import Protocol
from fdpass._keep.relay import Relay
from fdpass._keep.store import Store
from fdpass._keep.supervisor import State
from fdpass._supervision.loop import Loop
from fdpass.errors import CallFailed


class Outer:
    """In place of a `Notifier`."""

    def __init__(self):
        self.heard = []

    def relay(self, *fields):
        self.heard += fields

    def status(self, text):
        self.heard.append(f"STATUS={text}")

    def stopping(self):
        self.heard.append("STOPPING=1")


@pytest.fixture
def outer():
    return Outer()


@pytest.fixture
def store():
    with contextlib.closing(Loop()) as loop, contextlib.closing(Store(loop, 10)) as store:
        yield store


@pytest.fixture
def protocol(store, outer):
    protocol = Protocol(store, Relay(outer, restarts=True), {1234})
    supervisor = protocol.supervisor = types.SimpleNamespace(
        program=types.SimpleNamespace(pid=77), state=State.RUNNING, status="", follow=lambda program: None
    )
    supervisor.on_ready = lambda: setattr(supervisor, "state", State.READY)
    return protocol


def send(protocol, data, count=0):
    fds = [os.memfd_create("test") for _ in range(count)]
    with Message(data, fds) as message:
        protocol.on_message(message)
    return fds


def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("data", "state"),
    [
        (b"READY=1", State.READY),
        (b"RELOADING=1\nMONOTONIC_USEC=1", State.RELOADING),
        (b"RELOADING=1\nREADY=1", State.READY),
        (b"STOPPING=1", State.STOPPING),
        (b"STATUS=x", State.RUNNING),
    ],
)
def test_the_state_is_what_the_program_says(protocol, data, state):
    send(protocol, data)
    assert protocol.supervisor.state is state


def test_while_it_is_stopped_it_stays_stopping(protocol):
    protocol.supervisor.state = State.STOPPING
    send(protocol, b"READY=1\nSTATUS=still here")
    assert protocol.supervisor.state is State.STOPPING
    assert protocol.supervisor.status == "still here"


def test_a_notification_without_a_running_program_only_stores(protocol, store):
    """One that a child of the dead program has sent."""
    protocol.supervisor.program = None
    protocol.supervisor.state = State.WAITING
    send(protocol, b"READY=1\nMAINPID=5\nFDSTORE=1", 1)
    assert protocol.supervisor.state is State.WAITING
    assert len(store) == 1


def test_what_is_not_stored_is_closed(protocol, store):
    assert not any(map(is_open, send(protocol, b"STATUS=x", 2)))
    assert not any(map(is_open, send(protocol, b"BARRIER=1", 1)))
    assert not any(map(is_open, send(protocol, b"BARRIER=1\nFDSTORE=1", 1)))
    assert not any(map(is_open, send(protocol, b"FDSTORE=1\0x", 1)))
    assert [is_open(fd) for fd in send(protocol, b"FDSTORE=1", 12)] == [True] * 10 + [False] * 2
    assert len(store) == 10


def test_fdstore_without_descriptors_does_nothing(protocol, store):
    send(protocol, b"FDSTORE=1\nFDNAME=x")
    assert len(store) == 0


def test_what_is_relayed(protocol, outer):
    """Neither MAINPID nor STOPPING of a program that is started again, nor its descriptors."""
    send(protocol, b"READY=1\nMAINPID=5\nSTATUS=ten\nFDSTORE=1\nFDNAME=x", 1)
    assert outer.heard == ["STATUS=ten", "READY=1", f"MAINPID={os.getpid()}"]
    outer.heard.clear()
    send(protocol, b"STOPPING=1\nWATCHDOG=1\nEXTEND_TIMEOUT_USEC=7\nX_OWN=1\nERRNO=2")
    assert outer.heard == ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=7"]


def test_who_may_notify(protocol):
    own, stranger = os.geteuid(), 54321
    assert protocol.may_notify(1, own)
    assert protocol.may_notify(1, 0)
    assert protocol.may_notify(1, 1234)
    assert protocol.may_notify(77, stranger)
    assert not protocol.may_notify(78, stranger)
    protocol.supervisor.program = None
    assert not protocol.may_notify(77, stranger)
    protocol.supervisor = None
    assert not protocol.may_notify(77, stranger)


def test_mainpid_of_a_process_that_has_just_ended_is_ignored(protocol, monkeypatch):
    def ended(pid):
        raise CallFailed(3, "No such process")

    followed = []
    protocol.supervisor.follow = followed.append
    monkeypatch.setattr(protocols.processes, "is_descendant", lambda _: True)
    monkeypatch.setattr(protocols, "Program", ended)
    send(protocol, b"MAINPID=5")
    send(protocol, b"MAINPID=77")  # the program itself
    assert followed == []
    monkeypatch.setattr(protocols, "Program", lambda pid: pid)
    send(protocol, b"MAINPID=5")
    assert followed == [5]


def test_fds_of_a_message_are_moved_into_the_store(protocol, store):
    (number,) = send(protocol, b"FDSTORE=1\nFDNAME=x", 1)
    assert [each.fd.fileno() for each in store.named("x")] == [number]
    with Fd(os.dup(number)):
        store.remove([1])
    assert not is_open(number)
