"""`PassedListener`: a listening socket as servers know it, whose connections were passed to the worker."""

import contextlib
import errno
import gc
import select
import socket
import threading
import time
import warnings

import pytest

from fdpass.serve.worker.passed_listener import PassedListener
from fdpass.serve.worker.passed_socket import PassedSocket

ADDRESS = ("192.0.2.1", 8000)


@pytest.fixture
def listener():
    with PassedListener(socket.AF_INET, ADDRESS) as listener:
        yield listener


class Arrivals:
    """Connections to feed, their clients, and whose end was told."""

    def __init__(self):
        self.clients = []
        self.ended = []

    def make(self):
        ours, client = socket.socketpair()
        client.settimeout(60)
        number = len(self.clients)
        self.clients.append(client)
        client.sendall(number.to_bytes(2, "big"))
        return PassedSocket(ours.detach(), 0, lambda _: self.ended.append(number))


@pytest.fixture
def arrivals():
    arrivals = Arrivals()
    yield arrivals
    for client in arrivals.clients:
        client.close()


def number_of(connection):
    with connection:
        return int.from_bytes(connection.recv(2), "big")


def is_closed(client):
    """Whether the other end was closed: with what it had not read, that is a reset."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def is_readable(listener):
    return bool(select.select([listener], [], [], 0)[0])


def test_it_looks_like_the_dispatchers_listener(listener):
    assert listener.family == socket.AF_INET
    assert listener.type == socket.SOCK_STREAM
    assert listener.getsockname() == ADDRESS
    assert isinstance(listener, socket.socket)


def test_what_the_dispatcher_did_already_may_be_done_again(listener):
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 1))
    listener.listen(5)
    listener.listen()
    assert listener.getsockname() == ADDRESS


def test_connections_come_in_their_order_with_their_clients(listener, arrivals):
    for _ in range(3):
        listener.feed(arrivals.make())
    for number in range(3):
        connection, client = listener.accept()
        assert client == ""  # of a socket pair
        assert connection.getblocking()
        assert number_of(connection) == number
    assert arrivals.ended == [0, 1, 2]


def test_a_client_that_went_away_is_accepted_all_the_same(listener):
    """accept(2) gives such as well; the server finds the end when it reads."""
    with socket.create_server(("127.0.0.1", 0)) as real:
        client = socket.create_connection(real.getsockname(), 60)
        server, _ = real.accept()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()  # resets it
    assert select.select([server], [], [], 60)[0]
    listener.feed(PassedSocket(server.detach(), 0, lambda _: None))
    connection, address = listener.accept()
    with connection:
        assert address == ("", 0)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_without_blocking(listener, arrivals):
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.feed(arrivals.make())
    assert number_of(listener.accept()[0]) == 0
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_with_a_timeout(listener, arrivals):
    listener.settimeout(0.01)
    with pytest.raises(TimeoutError):
        listener.accept()
    listener.feed(arrivals.make())
    assert number_of(listener.accept()[0]) == 0


def test_what_is_accepted_has_the_default_timeout(listener, arrivals, monkeypatch):
    listener.feed(arrivals.make())
    socket.setdefaulttimeout(7)
    try:
        connection, _ = listener.accept()
    finally:
        socket.setdefaulttimeout(None)
    with connection:
        assert connection.gettimeout() == 7


def test_it_can_be_polled(listener, arrivals):
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    assert not is_readable(listener)
    assert poller.poll(0) == []
    listener.feed(arrivals.make())
    listener.feed(arrivals.make())
    for number in range(2):
        assert is_readable(listener)
        assert poller.poll(0) == [(listener.fileno(), select.POLLIN)]
        assert number_of(listener.accept()[0]) == number
    assert not is_readable(listener)


def test_a_blocked_accept_is_woken(listener, arrivals):
    found = []
    thread = threading.Thread(target=lambda: found.append(number_of(listener.accept()[0])))
    thread.start()
    listener.feed(arrivals.make())
    thread.join(60)
    assert found == [0]


MANY = 1000  # more than the socket pair has room for bytes


@pytest.fixture
def many(listener, arrivals):
    for _ in range(MANY):
        listener.feed(arrivals.make())
    return arrivals


def test_however_many_wait_each_is_accepted_and_readiness_is_true(listener, many):
    listener.setblocking(False)
    for number in range(MANY):
        assert is_readable(listener)
        assert number_of(listener.accept()[0]) == number
    assert not is_readable(listener)
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.feed(many.make())
    assert number_of(listener.accept()[0]) == MANY


def test_however_many_wait_they_are_accepted_before_the_end_shows(listener, many):
    listener.end()
    listener.end()
    assert [number_of(listener.accept()[0]) for _ in range(MANY)] == list(range(MANY))
    with pytest.raises(OSError, match="Invalid argument") as caught:
        listener.accept()
    assert caught.value.errno == errno.EINVAL


def test_threads_share_it_and_each_connection_goes_to_one(listener, arrivals):
    found, count = [], 200

    def work():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            found.append(number_of(connection))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(count):
        listener.feed(arrivals.make())
    listener.end()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == list(range(count))
    assert sorted(arrivals.ended) == list(range(count))


class Held(PassedListener):
    """Whoever got a byte goes on when its event is set: the first, the second, ..."""

    def __init__(self):
        super().__init__(socket.AF_INET, ADDRESS)
        self.gates = [threading.Event() for _ in range(3)]
        self.came = 0

    def recv(self, *arguments):
        byte = super().recv(*arguments)
        gate = self.gates[self.came]
        self.came += 1
        gate.wait(60)
        return byte


def test_the_end_wakes_a_thread_that_came_while_another_had_not_yet_taken_the_last_connection(arrivals):
    def work():
        with contextlib.suppress(OSError):
            listener.accept()[0].close()

    def until(condition):
        while not condition():
            time.sleep(0)

    with Held() as listener:
        threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
        listener.feed(arrivals.make())
        threads[0].start()
        until(lambda: listener.came == 1)  # it has the connection's byte
        listener.end()
        threads[1].start()
        until(lambda: listener.came == 2)  # it has that of the end
        threads[2].start()
        until(lambda: listener._accepting == 3)
        for gate in listener.gates:
            gate.set()
        for thread in threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in threads)


def test_the_end_wakes_who_waits_and_stays(listener):
    errors = []

    def work():
        try:
            listener.accept()
        except OSError as error:
            errors.append(error.errno)

    thread = threading.Thread(target=work)
    thread.start()
    listener.end()
    thread.join(60)
    assert errors == [errno.EINVAL]
    for _ in range(2):
        with pytest.raises(OSError, match="Invalid argument"):
            listener.accept()


def test_the_end_wakes_who_polls_once(listener):
    """Many a server goes on polling whatever accept() says: it must not spin."""
    listener.setblocking(False)
    listener.end()
    assert is_readable(listener)
    with pytest.raises(OSError, match="Invalid argument"):
        listener.accept()
    assert not is_readable(listener)


def test_close_closes_what_waits_and_tells_of_it(arrivals):
    listener = PassedListener(socket.AF_INET, ADDRESS)
    for _ in range(3):
        listener.feed(arrivals.make())
    listener.close()
    listener.close()
    assert arrivals.ended == [0, 1, 2]
    assert all(map(is_closed, arrivals.clients))
    with pytest.raises(OSError, match="Bad file descriptor"):
        listener.accept()
    listener.end()


def test_what_comes_when_the_server_has_gone_is_closed_at_once(arrivals):
    """A connection whose PROXY header took its time: its client must not wait for nobody."""
    listener = PassedListener(socket.AF_INET, ADDRESS)
    listener.close()
    listener.feed(arrivals.make())
    assert arrivals.ended == [0]
    assert is_closed(arrivals.clients[0])


def test_what_comes_after_the_end_can_still_be_accepted(listener, arrivals):
    listener.end()
    listener.feed(arrivals.make())
    assert number_of(listener.accept()[0]) == 0
    with pytest.raises(OSError, match="Invalid argument"):
        listener.accept()


def test_what_is_accepted_outlives_the_listener(arrivals):
    listener = PassedListener(socket.AF_INET, ADDRESS)
    listener.feed(arrivals.make())
    connection, _ = listener.accept()
    listener.close()
    assert number_of(connection) == 0


def test_one_that_is_forgotten_leaves_nothing(arrivals):
    listener = PassedListener(socket.AF_INET, ADDRESS)
    listener.feed(arrivals.make())
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        del listener
        gc.collect()
    assert arrivals.ended == [0]
