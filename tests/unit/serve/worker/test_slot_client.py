"""The client of a PROXY header in the slot: stored by one worker, loaded by the next."""

import socket

import pytest

from fdpass.serve.shared.slots import BASE, CLIENT, WORDS
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.slot_client import load_client, store_client

CLIENTS = {
    "ipv4": ("192.0.2.1", 56324),
    "ipv4, highest": ("255.255.255.255", 65535),
    "ipv4, lowest": ("0.0.0.0", 0),
    "ipv6": ("2001:db8::ff00:42:8329", 443),
    "ipv6, highest": ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535),
    "ipv6, loopback": ("::1", 1),
    "none": None,
}


def new_socket():
    ours, theirs = socket.socketpair()
    theirs.close()
    return PassedSocket(ours.detach(), 0, lambda _: None)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_the_next_worker_loads_the_client_that_the_first_stored(client, tls):
    """From words as in a real slot: signed, of 64 bits."""
    words = memoryview(bytearray(8 * WORDS)).cast("q")
    with new_socket() as first, new_socket() as second:
        first.client, first.tls_by_proxy = client, tls
        store_client(words, first, 28)
        assert load_client(words, second)
        assert (second.client, second.tls_by_proxy) == (client, tls)


def test_no_client_is_loaded_before_a_header_was_read():
    with new_socket() as sock:
        assert not load_client([0] * WORDS, sock)
        assert (sock.client, sock.tls_by_proxy) == (None, False)


def test_no_client_is_loaded_if_the_worker_died_before_the_last_store():
    """The next worker gets the bytes of the header, and reads it once more."""
    words = [0] * WORDS
    with new_socket() as sock:
        store_client(words, sock, 28)
        assert words[BASE] == 28
        words[BASE] = 0
        assert not load_client(words, sock)


def test_the_position_behind_the_header_is_stored_last():
    """A worker may die between any two stores: before the last the header is read again, after it never."""

    class RecordingSlot(list):
        def __setitem__(self, index, value):
            if not isinstance(index, slice):
                stored.append(index)
            super().__setitem__(index, value)

    stored = []
    with new_socket() as sock:
        sock.client = ("192.0.2.1", 5)
        store_client(RecordingSlot([0] * WORDS), sock, 28)
    assert stored[-1] == BASE
    assert sorted(stored) == sorted([BASE, CLIENT, CLIENT + 1, CLIENT + 2])
