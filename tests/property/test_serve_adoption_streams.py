"""Open streams: the next dispatcher does with a stream what the dead one would have done, wherever it died.

The connections are real; the next dispatcher decides by what the estate, the slot and the page have then.
"""

import contextlib
import os
import signal
from functools import partial

import pytest

from fdpass.serve.shared import pages
from fdpass.serve.shared.pages import EVENTS, WEBSOCKET
from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    FINAL_BASE,
    FINAL_END,
    FLAGS,
    OPEN,
    REDELIVER,
    UNFINISHED,
    WRITTEN,
    WROTE,
    Flag,
)

from ..unit.serve.dispatcher.test_custody_streams import MESSAGE, StreamCase
from ._deaths import Death, each_step_is_seen

pytestmark = each_step_is_seen

SLOT = 2


def idle(case):
    pass


def part_of_a_message(case):
    case.receive(MESSAGE[:5])


def a_message_that_may_come_again(case):
    case.receive(given=REDELIVER | 1)


def a_message_in_the_application(case):
    case.receive(given=1)


def a_frame_without_an_end(case):
    case.send(b"frame", 2)


def a_whole_frame(case):
    case.send(b"frame")


def a_frame_whose_rest_is_in_the_page(case):
    case.send(b"frame", 2)
    pages.keep_backlog(case.custody._pages, SLOT, 7, b"ame")


def a_frame_that_a_worker_was_handed(case):
    a_frame_whose_rest_is_in_the_page(case)
    case.slot[WRITTEN] = case.slot[FINAL_END]


def an_event_without_an_end(case):
    case.slot[FINAL_END] = UNFINISHED | OPEN
    case.write(b"even")


def the_end_of_the_response(case):
    case.slot[FINAL_BASE] = case.slot[BASE]
    case.slot[FINAL_END] = (case.slot[WRITTEN] & ~OPEN) + 3
    case.write(b"end")


def a_stream_that_was_not_open_yet(case):
    case.slot[WRITTEN] = 0
    case.slot[FLAGS] = Flag.CALLED | Flag.SAFE | Flag.IDEMPOTENT
    case.slot[FINAL_END] = 5 | OPEN


def many_deaths(case):
    case.receive(MESSAGE[:5])
    case.slot[ATTEMPT] = 3


WEBSOCKETS = [
    idle, part_of_a_message, a_message_that_may_come_again, a_message_in_the_application, a_frame_without_an_end,
    a_whole_frame, a_frame_whose_rest_is_in_the_page, a_stream_that_was_not_open_yet, many_deaths,
]  # fmt: skip
EVENT_STREAMS = [
    idle, part_of_a_message, a_whole_frame, a_frame_whose_rest_is_in_the_page, an_event_without_an_end,
    the_end_of_the_response,
]  # fmt: skip
RETURNED = [idle, part_of_a_message, a_frame_that_a_worker_was_handed]
CASES = [
    *((WEBSOCKET, before, "died") for before in WEBSOCKETS),
    *((EVENTS, before, "died") for before in EVENT_STREAMS),
    *((kind, before, "returned") for kind in (WEBSOCKET, EVENTS) for before in RETURNED),
]


class Life:
    """A stream, and a dispatcher that dies at a step of what it does about it; the next one decides again.

    The dead one is a child process, which shares the memory and the connection.

    Attributes:
        steps: How many steps there were, if it did not die.
        outcome: What the client and the next worker find.
    """

    def __init__(self, kind, before, how, death):
        with contextlib.closing(StreamCase("ipv4", kind)) as case:
            before(case)
            case.worker.close()
            read = MESSAGE[:5] if before is part_of_a_message else b""
            act = partial(case.custody.take_back, SLOT, read) if how == "returned" else partial(self.recover, case)
            self.steps = 0
            if not death:
                with Death() as life:
                    act()
                self.steps = life.steps
            else:
                self.die_in(act, death)
                if case.custody.fd(SLOT) >= 0:
                    self.recover(case)
                elif case.number not in case.custody.lingering._timers:
                    os.close(case.number)  # as the sweep of the table does
            self.outcome = self.seen(case)

    @staticmethod
    def die_in(act, death):
        pid = os.fork()
        if not pid:
            try:
                with Death(death, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                    act()
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL

    @staticmethod
    def recover(case):
        case.custody.recover(SLOT, case.buffers)

    @staticmethod
    def seen(case):
        if case.custody.fd(SLOT) >= 0:  # it goes on
            slot = tuple(case.slot)
            page = pages.load(case.custody._pages, SLOT)
            backlog = pages.backlog(case.custody._pages, SLOT, case.slot[WROTE])
            return slot, case.custody.handed(SLOT), page, backlog
        data = b""
        try:
            while some := case.client.recv(100):
                data += some
        except ConnectionResetError:
            return data, "reset"
        return data, "end", case.allocated


@pytest.mark.parametrize(("kind", "before", "how"), CASES, ids=lambda each: getattr(each, "__name__", str(each)))
def test_the_next_dispatcher_does_what_the_dead_one_would_have_done(kind, before, how):
    undisturbed = Life(kind, before, how, 0)
    assert undisturbed.steps
    for death in range(1, undisturbed.steps + 1, 2):
        life = Life(kind, before, how, death)
        # Between the last bytes and the end of its side it is not known that all was sent: a reset.
        assert life.outcome in {undisturbed.outcome, (undisturbed.outcome[0], "reset")}, death
