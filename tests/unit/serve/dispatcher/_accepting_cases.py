"""An acceptor of each kind with its listeners, clients, and fake workers."""

import array
import contextlib
import socket

from fdpass.serve.dispatcher.accept.balance import Least
from fdpass.serve.dispatcher.accept.by_dispatcher import ByDispatcher
from fdpass.serve.dispatcher.accept.by_worker import ByWorker
from fdpass.serve.dispatcher.listeners import listen_at
from fdpass.serve.dispatcher.passing import Passing
from fdpass.serve.keeper.estate import Estate
from fdpass.serve.shared import messages

from .._estates import connections_of


class AcceptingCase:
    """What both have in common.

    Attributes:
        acceptor: The acceptor.
        worker_ends: For each row, the worker's end of its channel.
        clients: All clients that have connected.
    """

    def __init__(self, fakes, *, most=1000, capacity=500, binds=("127.0.0.1:0",)):
        self.fakes = fakes
        self.connections = connections_of(most)
        self.listeners = listen_at(binds, 2048)
        self.acceptor = self.make_acceptor(
            fakes.loop, self.listeners, self.connections, fakes.ledger, Least(), capacity
        )
        self.clients = []
        self.worker_ends = {}

    def add_worker(self, row):
        worker = self.fakes.make(row)
        self.worker_ends[row] = self.fakes.worker_end(worker)
        self.acceptor.add(worker)
        self.acceptor.proceed()
        return worker

    def lose_worker(self, worker):
        """The worker has died."""
        self.acceptor.remove(worker)
        self.acceptor.recover(worker)
        self.acceptor.proceed()

    def connect(self, count=1, listener=0):
        sock = self.listeners[listener].sock
        for _ in range(count):
            client = socket.socket(sock.family)
            client.settimeout(60)
            client.connect(sock.getsockname())
            self.clients.append(client)

    def live(self, worker):
        """How many connections the dispatcher says that a worker has."""
        return self.connections.live_of[worker.row]

    @property
    def watched(self):
        """Indices of the listeners that are watched."""
        return self.acceptor._watch.watched

    def close(self):
        self.acceptor.close()
        self.acceptor.drop_waiting()
        for each in (*self.listeners, *self.clients):
            each.close()
        all_of = self.connections
        assert all_of.accepted == all_of.finished + all_of.live + all_of.lost


class ByDispatcherCase(AcceptingCase):
    """The dispatcher accepts, without custody."""

    @staticmethod
    def make_acceptor(*arguments):
        return ByDispatcher(*arguments, custody=None, passing=Passing(Estate.private(arguments[2].most)))

    def take(self, worker):
        """The worker reads its channel, and reports it. Returns the slots that it got."""
        slots = []
        for kind, data, count in self.fakes.read(self.worker_ends[worker.row]):
            assert kind == messages.HANDOFF
            _, *got = array.array("I", data)  # the first word is a time
            assert len(got) == count
            slots += got
        self.fakes.ledger.taken[worker.row] += len(slots)
        self.acceptor.on_room(worker)
        return slots

    def finish(self, worker, slots):
        """The worker's connections have ended."""
        for slot in slots:
            assert self.connections.finish(slot, worker.row)
        self.acceptor.proceed()


class ByWorkerCase(AcceptingCase):
    """The workers accept when they have a turn."""

    def __init__(self, fakes, **options):
        super().__init__(fakes, **options)
        self.accepted = []

    @staticmethod
    def make_acceptor(*arguments):
        return ByWorker(*arguments)

    def read_turns(self, worker):
        """The worker reads its channel. Returns the listener and the slots of each turn."""
        found = []
        for kind, data, _ in self.fakes.read(self.worker_ends[worker.row]):
            assert kind == messages.TURN
            index, *slots = array.array("I", data)
            found.append((index, slots))
        return found

    def accept(self, turn):
        """Accept as a worker does: as many as there are slots, and connections."""
        index, slots = turn
        used = []
        for slot in slots:
            with contextlib.suppress(BlockingIOError):
                self.accepted.append(self.listeners[index].sock.accept()[0])
                used.append(slot)
        return used

    def serve(self, worker):
        """The worker reads its turns, accepts, and reports. Returns the slots of its connections."""
        found = []
        for turn in self.read_turns(worker):
            used = self.accept(turn)
            self.fakes.ledger.accepted[worker.row] += len(used)
            self.acceptor.on_accepted(worker, used)
            found += used
        return found

    def close(self):
        super().close()
        for sock in self.accepted:
            sock.close()
