"""`Reports`: HOLDER is stored before a report, and SYNCED comes after all reports of before."""

import asyncio
import socket
from types import SimpleNamespace

import pytest

from fdpass._conversation import Conversation
from fdpass._options import MAX_MESSAGE
from fdpass._pair import socket_pair
from fdpass.serve.shared import messages
from fdpass.serve.shared.ledger import EPOCH, Holder, Ledger, size_for
from fdpass.serve.worker.passed_socket import do_nothing
from fdpass.serve.worker.reports import Reports

ROW = 1


class Case:
    """Reports of one worker; the dispatcher's end of the channel is in the test's hands."""

    def __init__(self):
        ours, theirs = socket_pair("seqpacket")
        self.channel, self.dispatcher = (
            Conversation(each, acknowledged=False, max_message=MAX_MESSAGE, max_fds=0, policy=None)
            for each in (ours, theirs)
        )
        self.ledger = Ledger(bytearray(size_for(1000)))
        self.reports = Reports(self.channel, self.ledger, ROW, custody=True)

    def close(self, slot, **facts):
        self.reports.closed(
            SimpleNamespace(
                **{"slot": slot, "returned": False, "read": b"", "shut": True, "on_returned": do_nothing} | facts
            )
        )

    def read(self):
        while self.dispatcher.pull(socket.MSG_DONTWAIT):
            pass
        return [self.dispatcher.take().data for _ in range(len(self.dispatcher.inbox))]

    def synchronize(self, serial):
        self.reports.synchronize(
            serial, lambda: self.channel.out.send_now(messages.synced(serial, leaving=False), ())
        )

    def end(self):
        self.channel.close()
        self.dispatcher.close()


def run(scenario):
    async def main():
        case = Case()
        try:
            await scenario(case)
        finally:
            case.end()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("facts", "holder"),
    [
        ({}, Holder.ENDED),
        ({"shut": False}, Holder.UNSHUT),
        ({"returned": True}, Holder.RETURNED),
        ({"returned": True, "read": b"GET"}, Holder.RETURNED),
    ],
)
def test_holder_says_what_the_worker_did_with_a_connection(facts, holder):
    async def scenario(case):
        case.close(3, **facts)
        assert case.ledger.holders[3] == holder

    run(scenario)


def test_after_sync_the_epoch_is_the_new_dispatchers():
    async def scenario(case):
        case.close(1, returned=True)
        assert case.reports.taken == Holder.TAKEN
        case.synchronize(9)
        assert case.read() == [messages.with_slots(messages.RETURNED, [1]), messages.synced(9, leaving=False)]
        case.close(2)
        assert case.ledger.holders[1] == Holder.RETURNED
        assert case.ledger.holders[2] == Holder.ENDED + 9 * EPOCH
        assert case.reports.taken == Holder.TAKEN + 9 * EPOCH

    run(scenario)


def test_synced_waits_for_reports_that_the_channel_has_no_room_for():
    """Until then the epoch is the old one."""

    async def scenario(case):
        count = 0
        while case.channel.out.send_now(b"x", ()):
            count += 1
        case.close(1, returned=True)
        case.synchronize(9)
        case.close(2)
        assert case.ledger.holders[2] == Holder.ENDED
        assert case.read() == [b"x"] * count
        while not (found := case.read()):
            await asyncio.sleep(0.001)
        assert found == [messages.with_slots(messages.RETURNED, [1]), messages.synced(9, leaving=False)]
        case.close(4)
        assert case.ledger.holders[4] == Holder.ENDED + 9 * EPOCH

    run(scenario)


@pytest.mark.parametrize("read", [b"GET", b""])
def test_the_buffer_is_kept_until_a_dispatcher_holds_the_connection(read):
    """The dispatcher may die with the message that it has read; the next one finds the bytes in the buffer."""

    async def scenario(case):
        free = asyncio.Event()
        case.close(5, returned=True, read=read, on_returned=free.set)
        while not case.read():
            await asyncio.sleep(0)
        case.synchronize(9)
        await asyncio.sleep(0.02)
        assert not free.is_set()
        case.ledger.holders[5] = Holder.NOTHING
        await asyncio.wait_for(free.wait(), 5)

    run(scenario)
