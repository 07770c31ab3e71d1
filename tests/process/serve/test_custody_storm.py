"""Workers killed and generations replaced under load: no client has an error, none has to connect again."""

import contextlib
import random
import threading

import pytest

ROUNDS = 6
RELOADS = {2, 4}
_THINK_SECONDS = 0.01  # of a client between two requests: thirty threads share a processor


class Load:
    """Clients that ask all the time: ``keep`` over one connection each, ``fresh`` over one for each request."""

    def __init__(self, server, client, keep, fresh):
        self.server = server
        self.over = threading.Event()
        self.errors = []
        self.answered = [0] * (keep + fresh)
        self._client = client
        acts = [self._keep] * keep + [self._fresh] * fresh
        self.threads = [
            threading.Thread(target=self._run, args=(act, number), daemon=True) for number, act in enumerate(acts)
        ]
        for thread in self.threads:
            thread.start()

    def _run(self, act, number):
        try:
            act(number)
        except Exception as error:
            self.errors.append((number, repr(error)))

    def _keep(self, number):
        with contextlib.closing(self._client(self.server)) as one:
            for count in self._counted(number):
                self._ask(one, f"{number}-{count}")

    def _fresh(self, number):
        for count in self._counted(number):
            with contextlib.closing(self._client(self.server)) as one:
                self._ask(one, f"{number}-{count}", connection="close")
                assert one.ended()

    def _counted(self, number):
        while not self.over.wait(_THINK_SECONDS):
            yield self.answered[number]
            self.answered[number] += 1

    def _ask(self, one, token, **headers):
        told = one.ask(token=token, **headers).told()
        assert told["token"] == token
        assert told["attempt"] < 2

    def wait_all(self, tools):
        """Until each has had an answer to what it asks now: a request is repeated only once."""
        before = list(self.answered)

        def look():
            return self.errors or all(now > then for now, then in zip(self.answered, before, strict=True))

        tools.wait_until(look, "all are answered: ", lambda: (before, self.answered))

    def end(self):
        """Let them stop, and wait for it."""
        self.over.set()
        for thread in self.threads:
            thread.join()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_kills_and_reloads_under_load_cost_no_client_anything(kept, client, tools, loop):
    server = kept("--workers", "2", "--spare", "1", "--loop", loop)
    assert server.address  # asked for by one thread alone
    rng = random.Random(4)
    load = Load(server, client, keep=20, fresh=10)
    try:
        for count in range(ROUNDS):
            if count in RELOADS:
                server.cli("reload")
            server.kill_worker(rng.choice(server.workers()))
            load.wait_all(tools)
    finally:
        load.end()
    assert load.errors == []
    assert min(load.answered) >= ROUNDS
    status = server.wait_connections(live=0, lost=0)
    assert (status["connections"]["answered_502"], status["connections"]["cut"]) == (0, 0)
    assert status["connections"]["moved"] >= 1
