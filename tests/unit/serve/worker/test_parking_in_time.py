"""A parked connection whose request comes as its keep-alive time ends."""

import asyncio
import time

from fdpass.serve.worker.parking import _GRACE, Parking
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.poller import Poller

from .._custody_case import pair


def test_a_request_that_comes_in_the_turn_of_the_loop_in_which_keep_alive_ends_is_served():
    async def main():
        loop = asyncio.get_running_loop()
        server, client = pair("ipv4")
        served = []
        with client, PassedSocket(server.detach(), 0, lambda _: None) as passed:
            passed.setblocking(False)
            poller = Poller(loop)
            parking = Parking(poller, 0.01, served.append)
            parking.add(passed)
            over = loop.time() + 0.01 + _GRACE
            loop.call_at(over - 0.01, client.sendall, b"POST / HTTP/1.1\r\n\r\n")
            await asyncio.sleep(0)
            time.sleep(0.2)  # both are due in the next turn of the loop
            await asyncio.sleep(0.01)
            poller.close()
            assert served == [passed]

    asyncio.run(main())
