"""`PassedListener` behaves as a listening socket, and its connections come from the dispatcher."""

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
    """Makes connections to feed; `ended` has the number of each whose end was reported."""

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
    """Whether the server's end was closed: if bytes were unread, the client sees a reset."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def is_readable(listener):
    return bool(select.select([listener], [], [], 0)[0])


def test_it_has_the_family_and_address_of_the_dispatchers_listener(listener):
    assert listener.family == socket.AF_INET
    assert listener.type == socket.SOCK_STREAM
    assert listener.getsockname() == ADDRESS
    assert isinstance(listener, socket.socket)


def test_bind_listen_and_setsockopt_do_nothing(listener):
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 1))
    listener.listen(5)
    listener.listen()
    assert listener.getsockname() == ADDRESS


def test_connections_are_accepted_in_order_with_their_clients_addresses(listener, arrivals):
    for _ in range(3):
        listener.feed(arrivals.make())
    for number in range(3):
        connection, client = listener.accept()
        assert client == ""  # of a socket pair
        assert connection.getblocking()
        assert number_of(connection) == number
    assert arrivals.ended == [0, 1, 2]


def test_a_connection_whose_client_went_away_is_accepted(listener):
    """As with accept(2); the server sees the end when it reads."""
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


def test_accept_without_blocking(listener, arrivals):
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.feed(arrivals.make())
    assert number_of(listener.accept()[0]) == 0
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_accept_with_a_timeout(listener, arrivals):
    listener.settimeout(0.01)
    with pytest.raises(TimeoutError):
        listener.accept()
    listener.feed(arrivals.make())
    assert number_of(listener.accept()[0]) == 0


def test_an_accepted_socket_has_the_default_timeout(listener, arrivals, monkeypatch):
    listener.feed(arrivals.make())
    socket.setdefaulttimeout(7)
    try:
        connection, _ = listener.accept()
    finally:
        socket.setdefaulttimeout(None)
    with connection:
        assert connection.gettimeout() == 7


def test_polling_shows_whether_a_connection_waits(listener, arrivals):
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


def test_a_connection_wakes_a_blocked_accept(listener, arrivals):
    found = []
    thread = threading.Thread(target=lambda: found.append(number_of(listener.accept()[0])))
    thread.start()
    listener.feed(arrivals.make())
    thread.join(60)
    assert found == [0]


MANY = 1000  # more connections than the socket pair has room for bytes


@pytest.fixture
def many(listener, arrivals):
    for _ in range(MANY):
        listener.feed(arrivals.make())
    return arrivals


def test_polling_is_right_with_more_connections_than_the_socket_pair_has_room_for(listener, many):
    listener.setblocking(False)
    for number in range(MANY):
        assert is_readable(listener)
        assert number_of(listener.accept()[0]) == number
    assert not is_readable(listener)
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.feed(many.make())
    assert number_of(listener.accept()[0]) == MANY


def test_all_waiting_connections_are_accepted_before_the_end_shows(listener, many):
    listener.end()
    listener.end()
    assert [number_of(listener.accept()[0]) for _ in range(MANY)] == list(range(MANY))
    with pytest.raises(OSError, match="Invalid argument") as caught:
        listener.accept()
    assert caught.value.errno == errno.EINVAL


def test_each_connection_goes_to_one_of_the_threads_that_accept(listener, arrivals):
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


class GatedListener(PassedListener):
    """Holds each thread that has got a byte until the test opens its gate."""

    def __init__(self):
        super().__init__(socket.AF_INET, ADDRESS)
        self.gates = [threading.Event() for _ in range(3)]
        self.held = 0

    def recv(self, *arguments):
        byte = super().recv(*arguments)
        gate = self.gates[self.held]
        self.held += 1
        gate.wait(60)
        return byte


def test_the_end_wakes_a_thread_that_entered_before_another_took_the_last_connection(arrivals):
    def work():
        with contextlib.suppress(OSError):
            listener.accept()[0].close()

    def until(condition):
        while not condition():
            time.sleep(0)

    with GatedListener() as listener:
        threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
        listener.feed(arrivals.make())
        threads[0].start()
        until(lambda: listener.held == 1)  # it has the connection's byte
        listener.end()
        threads[1].start()
        until(lambda: listener.held == 2)  # it has the byte of the end
        threads[2].start()
        until(lambda: listener._accepting == 3)
        for gate in listener.gates:
            gate.set()
        for thread in threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in threads)


def test_the_end_wakes_a_blocked_accept_and_later_calls_fail_too(listener):
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


def test_the_end_wakes_a_polling_server_once(listener):
    """Many servers go on polling whatever accept() raises: they must not spin."""
    listener.setblocking(False)
    listener.end()
    assert is_readable(listener)
    with pytest.raises(OSError, match="Invalid argument"):
        listener.accept()
    assert not is_readable(listener)


def test_close_closes_waiting_connections_and_reports_their_ends(arrivals):
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


def test_a_connection_that_comes_after_close_is_closed_at_once(arrivals):
    """As one whose PROXY header came late: its client must not wait in vain."""
    listener = PassedListener(socket.AF_INET, ADDRESS)
    listener.close()
    listener.feed(arrivals.make())
    assert arrivals.ended == [0]
    assert is_closed(arrivals.clients[0])


def test_a_connection_that_comes_after_the_end_can_be_accepted(listener, arrivals):
    listener.end()
    listener.feed(arrivals.make())
    assert number_of(listener.accept()[0]) == 0
    with pytest.raises(OSError, match="Invalid argument"):
        listener.accept()


def test_an_accepted_connection_outlives_the_listener(arrivals):
    listener = PassedListener(socket.AF_INET, ADDRESS)
    listener.feed(arrivals.make())
    connection, _ = listener.accept()
    listener.close()
    assert number_of(connection) == 0


def test_a_listener_that_is_collected_closes_waiting_connections(arrivals):
    listener = PassedListener(socket.AF_INET, ADDRESS)
    listener.feed(arrivals.make())
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        del listener
        gc.collect()
    assert arrivals.ended == [0]
