"""Handlers that close in a ``finally`` or a ``with`` fail like any other: it is said, and the client sees it."""

import pytest

CLOSES = """
async def stream(reader, writer):
    await reader.readline()
    try:
        writer.write(b"part of it")
        await writer.drain()
        raise LookupError("a mistake")
    finally:
        writer.close()

def blocking(sock):
    with sock:
        sock.recv(10)
        sock.sendall(b"part of it")
        raise LookupError("a mistake")
"""


@pytest.mark.parametrize("name", ["stream", "blocking"])
def test_the_failure_of_a_handler_that_closes_is_logged(serve, client, name):
    server = serve(f"closes:{name}", "--workers", "1", files={"closes.py": CLOSES})
    one = client(server)
    one.sock.sendall(b"ask\n")
    one.cut()
    server.wait_connections(finished=1)
    assert "LookupError: a mistake" in server.log()


@pytest.mark.parametrize("name", ["stream", "blocking"])
def test_a_handler_that_closes_as_it_fails_resets(serve, client, name):
    server = serve(f"closes:{name}", "--workers", "1", files={"closes.py": CLOSES})
    one = client(server)
    one.sock.sendall(b"ask\n")
    assert one.cut() == (b"part of it", True)
