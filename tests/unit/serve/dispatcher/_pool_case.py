"""A pool of fake workers, whose lives the test directs."""

from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.pool.pool import Pool
from fdpass.serve.dispatcher.pool.upkeep import Upkeep
from fdpass.serve.dispatcher.pool.worker_handle import State
from fdpass.serve.keeper.estate import Estate
from fdpass.serve.shared.config import Config

from .._estates import connections_of
from ._fake_workers import FIRST_PID


class FakeOwner:
    """Takes the place of the dispatcher.

    Attributes:
        calls: What the pool has called, in order.
        configs: The settings of each worker that was set up, by its process number.
        outcome: What `recover` returns.
        waiting: What `has_waiting` returns.
    """

    def __init__(self):
        self.calls = []
        self.configs = {}
        self.outcome = ""
        self.waiting = False

    def make_buffers(self):
        return None

    def set_up(self, worker, generation):
        self.calls.append(("set up", worker.pid, generation.number))
        self.configs[worker.pid] = generation.config
        return True

    def activate(self, worker):
        self.calls.append(("activate", worker.pid))

    def deactivate(self, worker):
        self.calls.append(("deactivate", worker.pid))

    def recover(self, worker):
        self.calls.append(("recover", worker.pid))
        return self.outcome

    def has_waiting(self):
        return self.waiting

    def workers_changed(self): ...


class PoolCase:
    """A pool and its upkeep.

    Attributes:
        outcomes: How each reload has ended.
    """

    def __init__(self, fakes, **settings):
        self.fakes = fakes
        self.owner = FakeOwner()
        self.connections = connections_of(100)
        config = Config(**{"workers": 2, **settings})
        self.pool = Pool(
            fakes.loop,
            fakes.ledger,
            self.connections,
            estate=Estate.private(100),
            owner=self.owner,
            config=config,
            access_log=AccessLog(""),
        )
        self.upkeep = Upkeep(fakes.loop, fakes.ledger, self.pool)
        self.outcomes = []

    def start(self):
        """Start the first workers, and make them ready."""
        self.pool.reconcile()
        self.make_ready(self.starting())
        return self

    def starting(self):
        return [worker for worker in self.pool.workers if worker.state is State.STARTING]

    def make_ready(self, workers):
        for worker in workers:
            self.fakes.beat(worker)
            self.pool.on_ready(worker)

    def end(self, worker, status=0):
        """The worker's process ends, and the loop notices."""
        worker.child.end(status)
        self.fakes.run_until(lambda: worker.state is State.GONE)

    def fail(self, worker, sentence="SyntaxError", details=""):
        """The worker reports that it cannot start, and ends."""
        worker.failure = {"sentence": sentence, "details": details}
        self.end(worker, 1)

    def reload(self, config, access_log=""):
        self.pool.reload(config, AccessLog(access_log), self.outcomes.append)

    def states(self):
        """Of each worker its place in the order of starts, its generation and its state."""
        return [(worker.pid - FIRST_PID, worker.generation, worker.state.value) for worker in self.pool.workers]

    def generations(self):
        """Of each worker its generation and its state."""
        return [(worker.generation, worker.state.value) for worker in self.pool.workers]

    def close(self):
        self.pool.stopping = True
        for worker in self.pool.workers:
            self.end(worker)
        self.pool.close()
