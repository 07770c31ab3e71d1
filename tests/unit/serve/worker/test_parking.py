"""Parked connections: taken over idle, served when their clients ask again, ended in their time."""

import asyncio
import contextlib
import socket
from unittest import mock

from fdpass.serve.worker.parking import Parking
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.poller import Poller


class ParkedClients:
    """A parking with so many connections; which of them were served, closed and given back."""

    def __init__(self, count, seconds):
        loop = asyncio.get_running_loop()
        self.poller = Poller(loop)
        self.served, self.closed, self.clients, self.duplicates = [], [], [], []
        self.parking = Parking(self.poller, seconds, self.served.append)
        for slot in range(count):
            ours, theirs = socket.socketpair()
            self.clients.append(theirs)
            self.duplicates.append(ours.dup())  # as the dispatcher keeps them
            self.parking.add(PassedSocket(ours.detach(), slot, self.closed.append))

    @property
    def returned(self):
        """By slot, for each closed socket, whether its connection was given back."""
        return {passed.slot: passed.returned for passed in self.closed}

    def close(self):
        for sock in (*self.clients, *self.duplicates, *self.served):
            sock.close()
        assert not self.poller._calls
        self.poller.close()


def run_with_parked(main, count=3, seconds=60.0):
    """Run ``main(parked)``."""

    async def whole():
        with contextlib.closing(ParkedClients(count, seconds)) as parked:
            await asyncio.wait_for(main(parked), 30)

    asyncio.run(whole())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_a_connection_is_served_when_its_client_sends_or_goes_and_others_stay_parked():
    async def main(parked):
        parked.clients[1].send(b"GET")
        await until(lambda: parked.served)
        assert [passed.slot for passed in parked.served] == [1]
        assert parked.served[0].recv(10) == b"GET"  # parking has read nothing
        parked.clients[2].close()  # only reading tells an end from data
        await until(lambda: len(parked.served) == 2)
        assert parked.closed == []
        parked.parking.end()

    run_with_parked(main)


def test_a_connection_that_stays_idle_too_long_is_closed():
    async def main(parked):
        parked.clients[0].send(b"GET")
        await until(lambda: len(parked.closed) == 2)
        assert parked.returned == {1: False, 2: False}
        assert [passed.slot for passed in parked.served] == [0]

    run_with_parked(main, seconds=0.05)


def test_give_back_returns_all_connections_and_ends_none():
    async def main(parked):
        parked.clients[0].send(b"GET")
        parked.parking.give_back()
        assert parked.returned == {0: True, 1: True, 2: True}
        assert parked.clients[1].send(b"still open") == 10

    run_with_parked(main)


def test_end_serves_connections_whose_clients_have_sent_and_closes_the_rest():
    async def main(parked):
        parked.clients[2].send(b"GET")
        parked.parking.end()
        assert parked.returned == {0: False, 1: False}
        assert [passed.slot for passed in parked.served] == [2]

    run_with_parked(main)


def test_a_connection_that_the_kernel_refuses_to_watch_is_closed(caplog):
    async def main(parked):
        ours, theirs = socket.socketpair()
        parked.clients.append(theirs)
        refused = OSError(28, "No space left on device")
        with mock.patch.object(parked.poller, "watch", side_effect=refused):
            parked.parking.add(PassedSocket(ours.detach(), 7, parked.closed.append))
        assert parked.returned == {7: False}
        assert "closed: No space left" in caplog.text
        parked.parking.end()

    run_with_parked(main)
