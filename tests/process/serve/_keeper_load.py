"""Clients that ask without a pause while processes of the server die; the first ones keep their connection."""

import contextlib
import os
import threading

from .conftest import LIMIT, wait_until


class Load:
    """What the clients have seen.

    Attributes:
        failures: What was no answer to the client's own request, in words.
        counts: How many answers each client got.
    """

    def __init__(self):
        self.failures, self.counts = [], []
        self._over = threading.Event()

    @contextlib.contextmanager
    def of(self, client, server, clients, keep, **request):
        """``clients`` ask until the end; all but the first ``keep`` open a connection for each request."""
        threads = [
            threading.Thread(target=self._ask, args=(number, client, server, number >= keep, request))
            for number in range(clients)
        ]
        assert server.address  # which the server is asked for once, while its dispatcher lives
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join(LIMIT)

    def _ask(self, number, client, server, new, request):
        count = 0
        try:
            one = client(server)
            while not self._over.is_set():
                token = f"{number}-{count}"
                assert one.ask(token=token, **request).told()["token"] == token
                count += 1
                if new:
                    one.close()
                    one = client(server)
            one.close()
        except Exception as error:
            self.failures.append(repr(error))
        self.counts.append(count)


POST = {"method": "POST", "body": b"x" * 100}


def descriptors(server):
    """The table that keeper and dispatcher share."""
    return os.listdir(f"/proc/{server.pid}/fd")


def wait_for_descriptors(server, count):
    """Until the table has no more of them than before."""
    wait_until(lambda: len(descriptors(server)) <= count, "descriptors: ", lambda: descriptors(server))
