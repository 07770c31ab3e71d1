"""The PROXY header of a real connection is read to its last byte and no further, and within a bounded time."""

import asyncio
import importlib.util
import mmap
import socket
import struct

import pytest

from fdpass.serve.shared.slots import BUFFER_SIZE, ORIGIN, READ
from fdpass.serve.worker import proxy_reader
from fdpass.serve.worker.custody.buffers import Buffers
from fdpass.serve.worker.custody.reader import Reader, nowhere
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.proxy_header import ProxyError
from fdpass.serve.worker.proxy_reader import HEADER_MAX, read_header

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


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), 60)
        server, _ = listener.accept()
    return server, client


@pytest.fixture(params=[tcp_pair, socket.socketpair], ids=["tcp", "unix"])
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


class InCustody:
    """The reading side of a connection in custody, and what the dispatcher finds in the buffer."""

    def __init__(self, passed, read=b""):
        self.words = nowhere()
        self.buffers = Buffers(mmap.mmap(-1, BUFFER_SIZE))
        passed.read = read
        scratch = memoryview(bytearray(HEADER_MAX))
        self.reader = Reader(self.words, self.buffers, scratch, marks=passed.is_unix)

    @property
    def buffered(self):
        return self.buffers.memory[: self.words[READ] - self.words[ORIGIN]]


async def read_in_custody(passed):
    """Read the header as a worker does by default."""
    await read_header(passed, InCustody(passed).reader)


async def send_in_pieces(passed, client, data, size):
    """Send a header in pieces, each only when the reader waits for more."""
    reading = asyncio.create_task(read_in_custody(passed))
    for start in range(0, len(data), size):
        client.send(data[start : start + size])
        for _ in range(3):
            await asyncio.sleep(0)
    await reading


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_no_byte_behind_the_header_is_taken(run, ends, header):
    passed, client = ends
    client.sendall(header + b"GET / HTTP/1.1\r\n")
    run(read_in_custody(passed))
    assert passed.recv(100) == b"GET / HTTP/1.1\r\n"


@pytest.mark.parametrize(("header", "size"), [(V1, 1), (V1, 7), (V2_TLS, 1), (V2_TLS, 17), (LONG, 1000)])
def test_a_header_may_come_in_pieces(run, ends, header, size):
    """The last piece together with the first bytes that the client sent."""
    passed, client = ends
    run(send_in_pieces(passed, client, header + b"rest", size))
    rest = b""
    while len(rest) < 4:
        rest += passed.recv(4 - len(rest))
    assert rest == b"rest"


def test_the_socket_gives_the_address_that_the_header_named(run, ends):
    passed, client = ends
    client.sendall(V1)
    run(read_in_custody(passed))
    assert passed.getpeername() == ("192.0.2.1", 56324)
    assert not passed.tls_by_proxy


def test_the_socket_knows_of_tls_and_ipv6(run, ends):
    passed, client = ends
    client.sendall(V2_TLS)
    run(read_in_custody(passed))
    assert passed.getpeername() == ("::1", 1)
    assert passed.tls_by_proxy


def test_a_health_check_has_the_addresses_of_its_own_connection(run, ends):
    passed, client = ends
    client.sendall(b"PROXY UNKNOWN\r\n")
    run(read_in_custody(passed))
    assert passed.client is None
    assert passed.getpeername() == client.getsockname()


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", V1.replace(b"56324", b"x"), b"\r\n\r\n\0\r\nQUIT\n\x41\0\0\0"]
)
def test_anything_but_a_header_is_refused_at_once(run, ends, data):
    passed, client = ends
    client.sendall(data)
    with pytest.raises(ProxyError):
        run(read_in_custody(passed))


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_is_read_alike_without_custody(run, ends, header):
    passed, client = ends
    client.sendall(header + b"rest")
    assert run(read_header(passed, None)) == len(header)
    assert passed.recv(100) == b"rest"


@pytest.mark.parametrize(("header", "half"), [(V1, 1), (V1, 20), (V2_TLS, 14), (V2_TLS, 30), (LONG, 4000)])
def test_half_a_header_goes_on_in_another_worker(run, ends, header, half):
    """A buffer keeps the bytes that the first worker has read, and the second worker gets them."""
    passed, client = ends
    first = InCustody(passed)

    async def begun():
        reading = asyncio.create_task(read_header(passed, first.reader))
        client.sendall(header[:half])
        while first.words[READ] < half:
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    run(begun())
    assert passed.read == first.buffered == header[:half]
    client.sendall(header[half:] + b"rest")
    second = InCustody(passed, header[:half])
    assert run(read_header(passed, second.reader)) == len(header)
    assert second.buffered == header
    assert (passed.read, passed.recv(100)) == (b"", b"rest")


def test_a_whole_header_from_another_worker_is_not_waited_for(run, ends):
    """That worker died between the read and the store of the client."""
    passed, _ = ends
    assert run(read_header(passed, InCustody(passed, V1).reader)) == len(V1)
    assert passed.client == ("192.0.2.1", 56324)


class CountingSocket(PassedSocket):
    """Counts its reads, so that a test sees a reader that spins."""

    reads = 0

    def recv(self, *arguments):
        self.reads += 1
        return super().recv(*arguments)


@pytest.mark.parametrize("pair", [tcp_pair, socket.socketpair], ids=["tcp", "unix"])
@pytest.mark.parametrize("data", [b"", b"P", V1[:20], V2_TLS[:14], V2_TLS[:30]])
def test_an_end_within_the_header_is_an_error_at_once(run, pair, data):
    """The reader neither waits for the timeout nor spins until then."""
    server, client = pair()
    with client, CountingSocket(server.detach(), 0, lambda _: None) as passed:
        passed.setblocking(False)
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        with pytest.raises(ProxyError, match="ended within the header"):
            run(read_in_custody(passed))
        assert passed.reads < 10


@pytest.mark.parametrize("pair", [tcp_pair, socket.socketpair], ids=["tcp", "unix"])
def test_a_client_that_stops_within_the_header_does_not_keep_the_worker_busy(run, pair):
    server, client = pair()
    with client, CountingSocket(server.detach(), 0, lambda _: None) as passed:
        passed.setblocking(False)

        async def slowly():
            reading = asyncio.create_task(read_in_custody(passed))
            client.sendall(V1[:20])
            for _ in range(100):
                await asyncio.sleep(0)
            client.sendall(V1[20:])
            await reading

        run(slowly())
        assert passed.reads < 10


def test_a_client_that_resets_the_connection_is_an_os_error(run):
    server, client = tcp_pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()  # resets it
    with PassedSocket(server.detach(), 0, lambda _: None) as passed, pytest.raises(ConnectionResetError):
        passed.setblocking(False)
        run(read_in_custody(passed))


@pytest.mark.parametrize("begun", [b"", V1[:9]])
def test_a_header_that_does_not_come_whole_times_out(run, ends, monkeypatch, begun):
    monkeypatch.setattr(proxy_reader, "_TIMEOUT_SECONDS", 0.01)
    passed, client = ends
    client.sendall(begun)
    with pytest.raises(TimeoutError):
        run(read_in_custody(passed))


def test_the_loop_does_not_watch_the_socket_afterwards(run, ends):
    """The number may be another file's by then; and the engine registers the socket itself."""
    passed, client = ends

    async def twice():
        loop = asyncio.get_running_loop()
        for data in (V1, b"nonsense\r\n"):
            client.sendall(data)
            try:
                await read_in_custody(passed)
            except ProxyError:
                pass
            assert not loop.remove_reader(passed.fileno())

    run(twice())


def test_a_client_that_sends_nothing_does_not_hold_up_another(run):
    pairs = [socket.socketpair() for _ in range(2)]
    passed = [PassedSocket(server.detach(), 0, lambda _: None) for server, _ in pairs]
    for each in passed:
        each.setblocking(False)

    async def both():
        silent = asyncio.create_task(read_in_custody(passed[0]))
        pairs[1][1].sendall(V1)
        await read_in_custody(passed[1])
        assert not silent.done()
        silent.cancel()
        await asyncio.gather(silent, return_exceptions=True)

    run(both())
    assert passed[1].client == ("192.0.2.1", 56324)
    for each in (*passed, *(client for _, client in pairs)):
        each.close()
