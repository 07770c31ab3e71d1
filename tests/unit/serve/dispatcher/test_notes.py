"""What workers note in shared memory: who a client is, for the next worker; and which connections have ended."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdpass.serve.shared.ledger import MOST_WORKERS, RING, SIZE, Column, Ledger
from fdpass.serve.shared.slots import BASE, CLIENT, WORDS
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.proxy_reader import note, recall

CLIENTS = {
    "ipv4": ("192.0.2.1", 56324),
    "ipv4, highest": ("255.255.255.255", 65535),
    "ipv4, lowest": ("0.0.0.0", 0),
    "ipv6": ("2001:db8::ff00:42:8329", 443),
    "ipv6, highest": ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535),
    "ipv6, loopback": ("::1", 1),
    "none": None,
}


def a_socket():
    ours, theirs = socket.socketpair()
    theirs.close()
    return PassedSocket(ours.detach(), 0, lambda _: None)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_the_next_worker_knows_the_client_as_the_first_did(client, tls):
    """The words are signed, of 64 bits, and shared: as in the real slot."""
    words = memoryview(bytearray(8 * WORDS)).cast("q")
    with a_socket() as first, a_socket() as second:
        first.client, first.tls_by_proxy = client, tls
        note(words, first, 28)
        assert recall(words, second)
        assert (second.client, second.tls_by_proxy) == (client, tls)


def test_nothing_is_recalled_of_a_connection_whose_header_nobody_has_read():
    with a_socket() as sock:
        assert not recall([0] * WORDS, sock)
        assert (sock.client, sock.tls_by_proxy) == (None, False)


def test_nothing_is_recalled_of_a_header_that_was_not_noted_to_the_end():
    """Its bytes come once more, and are read as a header once more."""
    words = [0] * WORDS
    with a_socket() as sock:
        note(words, sock, 28)
        assert words[BASE] == 28
        words[BASE] = 0
        assert not recall(words, sock)


def test_that_the_header_is_over_is_noted_last():
    """A worker may die between any two stores: before the last the header is read again, after it never."""

    class Recording(list):
        def __setitem__(self, index, value):
            if not isinstance(index, slice):
                stored.append(index)
            super().__setitem__(index, value)

    stored = []
    with a_socket() as sock:
        sock.client = ("192.0.2.1", 5)
        note(Recording([0] * WORDS), sock, 28)
    assert stored[-1] == BASE
    assert sorted(stored) == sorted([BASE, CLIENT, CLIENT + 1, CLIENT + 2])


# The ring


@pytest.fixture
def ledger():
    return Ledger(bytearray(SIZE))


@given(st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=400), max_size=12))
def test_notes_are_read_in_order_each_once(batches):
    """However many have gone through the ring before."""
    ledger = Ledger(bytearray(SIZE))
    ledger.ended[3] = ledger.seen[3] = 5 * RING - 100
    for batch in batches:
        assert all(ledger.note(3, slot) for slot in batch)
        assert ledger.read_notes(3) == batch
    assert ledger.read_notes(3) == []


def test_a_full_ring_takes_no_more_until_it_was_read(ledger):
    assert all(ledger.note(0, slot) for slot in range(RING))
    assert not ledger.note(0, 7)
    assert ledger.read_notes(0) == list(range(RING))
    assert ledger.note(0, 7)
    assert ledger.read_notes(0) == [7]


def test_it_goes_round(ledger):
    for turn in range(5 * RING // 3):
        assert all(ledger.note(0, 3 * turn + step) for step in range(3))
        assert ledger.read_notes(0) == [3 * turn, 3 * turn + 1, 3 * turn + 2]
    assert ledger.ended[0] == ledger.seen[0] == 3 * (5 * RING // 3)


@pytest.mark.parametrize("row", [0, 1, MOST_WORKERS - 1])
def test_each_worker_has_a_ring_of_its_own(ledger, row):
    assert all(ledger.note(row, slot) for slot in range(RING))
    for other in {0, 1, 2, MOST_WORKERS - 1} - {row}:
        assert ledger.read_notes(other) == []
        assert ledger.note(other, 99)
        assert ledger.read_notes(other) == [99]
    assert ledger.read_notes(row) == list(range(RING))


def test_a_word_from_an_earlier_round_is_not_taken_for_a_new_one(ledger):
    for slot in range(RING):
        ledger.note(0, slot)
    ledger.read_notes(0)
    ledger.ended[0] += 1  # as if the count were seen before the word
    assert ledger.read_notes(0) == []


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 5))
def test_what_the_worker_cannot_have_noted_ends_the_reading(garbage, place):
    """Another worker may write anything there: it is not taken for a note, nor is what comes behind it."""
    ledger = Ledger(bytearray(SIZE))
    for slot in range(6):
        ledger.note(0, slot + 10)
    if garbage >> 32 == place + 1:
        garbage = 0
    ledger._rings[place] = garbage
    assert ledger.read_notes(0) == list(range(10, 10 + place))
    assert ledger.seen[0] == place


def test_nothing_in_a_ring_lets_the_reading_go_on_for_ever(ledger):
    for slot in range(RING):
        ledger.note(0, slot)
    ledger.ended[0] = 2**40
    assert len(ledger.read_notes(0)) == RING
    assert ledger.read_notes(0) == []


def test_a_new_worker_in_a_row_begins_with_an_empty_ring(ledger):
    for slot in range(10):
        ledger.note(4, slot)
    ledger.read_notes(4)
    ledger.note(4, 10)
    ledger.clear(4)
    assert ledger.read_notes(4) == []
    assert (ledger.ended[4], ledger.seen[4]) == (0, 0)
    assert {Column.ENDED, Column.SEEN} <= set(Column)
    assert ledger.note(4, 5)
    assert ledger.read_notes(4) == [5]
