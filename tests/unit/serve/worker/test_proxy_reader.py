"""The PROXY header of a real connection: read to its last byte and not a byte further, in its time."""

import asyncio
import importlib.util
import mmap
import socket
import struct

import pytest

from fdpass.serve.shared.slots import BUFFER_SIZE, ORIGIN, READ
from fdpass.serve.worker import proxy_reader as proxied
from fdpass.serve.worker.custody.buffers import Buffers
from fdpass.serve.worker.custody.reader import Reader, nowhere
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.proxy_header import ProxyError
from fdpass.serve.worker.proxy_reader import LONGEST, read_header

LOOPS = [pytest.param(asyncio.SelectorEventLoop, id="asyncio")]
if importlib.util.find_spec("uvloop") is not None:
    import uvloop

    LOOPS.append(pytest.param(uvloop.new_event_loop, id="uvloop"))

V1 = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"
V2_TLS = b"\r\n\r\n\0\r\nQUIT\n\x21\x21" + struct.pack(
    ">H16s16sHHBHBI", 36 + 8, bytes(15) + b"\1", bytes(15) + b"\2", 1, 2, 0x20, 5, 1, 0
)
LONG = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H4s4sHH", 4096, bytes(4), bytes(4), 1, 2) + (
    b"\4" + struct.pack(">H", 4096 - 12 - 3) + bytes(4096 - 12 - 3)
)  # fmt: skip
HEADERS = {"v1": V1, "v2 with TLS": V2_TLS, "longest": LONG}


def tcp():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), 60)
        server, _ = listener.accept()
    return server, client


@pytest.fixture(params=[tcp, socket.socketpair], ids=["tcp", "unix"])
def ends(request):
    """The passed socket, non-blocking, and its client."""
    server, client = request.param()
    client.settimeout(60)
    with client, PassedSocket(server.detach(), 0, lambda _: None) as passed:
        passed.setblocking(False)
        yield passed, client


@pytest.fixture(params=LOOPS)
def run(request):
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


class Reading:
    """The reading side of a connection in custody, and what the dispatcher has of it."""

    def __init__(self, passed, read=b""):
        self.words = nowhere()
        self.buffers = Buffers(mmap.mmap(-1, BUFFER_SIZE))
        passed.read = read
        self.intake = Reader(self.words, self.buffers, memoryview(bytearray(LONGEST)), marks=passed.is_unix)

    @property
    def buffered(self):
        return self.buffers.memory[: self.words[READ] - self.words[ORIGIN]]


async def header_of(passed):
    """Read in custody, as a worker does."""
    await read_header(passed, Reading(passed).intake)


async def in_pieces(passed, client, data, size):
    """Let the header come in pieces, each only once the reader waits for more."""
    reading = asyncio.create_task(header_of(passed))
    for start in range(0, len(data), size):
        client.send(data[start : start + size])
        for _ in range(3):
            await asyncio.sleep(0)
    await reading


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_not_a_byte_of_what_follows_is_taken(run, ends, header):
    passed, client = ends
    client.sendall(header + b"GET / HTTP/1.1\r\n")
    run(header_of(passed))
    assert passed.recv(100) == b"GET / HTTP/1.1\r\n"


@pytest.mark.parametrize(("header", "size"), [(V1, 1), (V1, 7), (V2_TLS, 1), (V2_TLS, 17), (LONG, 1000)])
def test_a_header_may_come_in_pieces(run, ends, header, size):
    """The last of them with the first bytes of the client's own."""
    passed, client = ends
    run(in_pieces(passed, client, header + b"rest", size))
    rest = b""
    while len(rest) < 4:
        rest += passed.recv(4 - len(rest))
    assert rest == b"rest"


def test_the_socket_says_who_the_client_is(run, ends):
    passed, client = ends
    client.sendall(V1)
    run(header_of(passed))
    assert passed.getpeername() == ("192.0.2.1", 56324)
    assert not passed.tls_by_proxy


def test_ipv6_and_tls(run, ends):
    passed, client = ends
    client.sendall(V2_TLS)
    run(header_of(passed))
    assert passed.getpeername() == ("::1", 1)
    assert passed.tls_by_proxy


def test_of_a_health_check_the_addresses_are_the_connections_own(run, ends):
    passed, client = ends
    client.sendall(b"PROXY UNKNOWN\r\n")
    run(header_of(passed))
    assert passed.client is None
    assert passed.getpeername() == client.getsockname()


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", V1.replace(b"56324", b"x"), b"\r\n\r\n\0\r\nQUIT\n\x41\0\0\0"]
)
def test_what_is_no_header_is_refused_at_once(run, ends, data):
    passed, client = ends
    client.sendall(data)
    with pytest.raises(ProxyError):
        run(header_of(passed))


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_without_custody_it_is_read_alike(run, ends, header):
    passed, client = ends
    client.sendall(header + b"rest")
    assert run(read_header(passed, None)) == len(header)
    assert passed.recv(100) == b"rest"


@pytest.mark.parametrize(("header", "half"), [(V1, 1), (V1, 20), (V2_TLS, 14), (V2_TLS, 30), (LONG, 4000)])
def test_half_a_header_goes_on_in_another_worker(run, ends, header, half):
    """What the first has read is in a buffer until then; the second is handed it."""
    passed, client = ends
    first = Reading(passed)

    async def begun():
        reading = asyncio.create_task(read_header(passed, first.intake))
        client.sendall(header[:half])
        while first.words[READ] < half:
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    run(begun())
    assert passed.read == first.buffered == header[:half]
    client.sendall(header[half:] + b"rest")
    second = Reading(passed, header[:half])
    assert run(read_header(passed, second.intake)) == len(header)
    assert second.buffered == header
    assert (passed.read, passed.recv(100)) == (b"", b"rest")


def test_a_whole_header_that_was_handed_over_needs_nothing_of_the_client(run, ends):
    """Its worker died between the read and the note of it."""
    passed, _ = ends
    assert run(read_header(passed, Reading(passed, V1).intake)) == len(V1)
    assert passed.client == ("192.0.2.1", 56324)


class Counting(PassedSocket):
    """Counts the reads, so that a test sees a reader which spins."""

    reads = 0

    def recv(self, *arguments):
        self.reads += 1
        return super().recv(*arguments)


@pytest.mark.parametrize("pair", [tcp, socket.socketpair], ids=["tcp", "unix"])
@pytest.mark.parametrize("data", [b"", b"P", V1[:20], V2_TLS[:14], V2_TLS[:30]])
def test_an_end_within_the_header_is_seen_at_once(run, pair, data):
    """Nothing more will come: waiting for it, or looking again and again, would be for ten seconds."""
    server, client = pair()
    with client, Counting(server.detach(), 0, lambda _: None) as passed:
        passed.setblocking(False)
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        with pytest.raises(ProxyError, match="ended within the header"):
            run(header_of(passed))
        assert passed.reads < 10


@pytest.mark.parametrize("pair", [tcp, socket.socketpair], ids=["tcp", "unix"])
def test_a_slow_header_costs_a_read_for_each_piece(run, pair):
    """A client that sends half a header and then nothing must not keep the worker busy."""
    server, client = pair()
    with client, Counting(server.detach(), 0, lambda _: None) as passed:
        passed.setblocking(False)

        async def slowly():
            reading = asyncio.create_task(header_of(passed))
            client.sendall(V1[:20])
            for _ in range(100):
                await asyncio.sleep(0)
            client.sendall(V1[20:])
            await reading

        run(slowly())
        assert passed.reads < 10


def test_a_client_that_goes_away_is_an_error_of_the_system(run):
    server, client = tcp()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()  # resets it
    with PassedSocket(server.detach(), 0, lambda _: None) as passed, pytest.raises(ConnectionResetError):
        passed.setblocking(False)
        run(header_of(passed))


@pytest.mark.parametrize("begun", [b"", V1[:9]])
def test_a_header_that_does_not_come_is_not_waited_for(run, ends, monkeypatch, begun):
    monkeypatch.setattr(proxied, "_SECONDS", 0.01)
    passed, client = ends
    client.sendall(begun)
    with pytest.raises(TimeoutError):
        run(header_of(passed))


def test_the_loop_watches_nothing_afterwards(run, ends):
    """The number may be another's by then; and the engine registers it itself."""
    passed, client = ends

    async def twice():
        loop = asyncio.get_running_loop()
        for data in (V1, b"nonsense\r\n"):
            client.sendall(data)
            try:
                await header_of(passed)
            except ProxyError:
                pass
            assert not loop.remove_reader(passed.fileno())

    run(twice())


def test_other_connections_are_served_while_one_is_slow(run):
    """Two clients: the first says nothing, the second gets through."""
    pairs = [socket.socketpair() for _ in range(2)]
    passed = [PassedSocket(server.detach(), 0, lambda _: None) for server, _ in pairs]
    for each in passed:
        each.setblocking(False)

    async def both():
        silent = asyncio.create_task(header_of(passed[0]))
        pairs[1][1].sendall(V1)
        await header_of(passed[1])
        assert not silent.done()
        silent.cancel()
        await asyncio.gather(silent, return_exceptions=True)

    run(both())
    assert passed[1].client == ("192.0.2.1", 56324)
    for each in (*passed, *(client for _, client in pairs)):
        each.close()
