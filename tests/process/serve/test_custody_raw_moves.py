"""Raw handlers at bad moments: many that move while nobody listens, and those that fail in the middle."""

import os
import signal

import pytest

MANY = 200


def line_of(one):
    try:
        return one.sock.recv(100)
    except ConnectionError as error:
        return type(error).__name__.encode()


MOVING = """
import os

async def handle(conn):
    while line := await conn.readline():
        if line == b"go\\n":
            await conn.commit(b"moved")
            os.write(1, b"MOVES\\n")
            await conn.move()
        await conn.commit(b"", b"%b after %b\\n" % (line.strip(), conn.state))
"""


def test_what_many_connections_move_with_is_theirs_though_their_worker_dies_before_it_is_heard(serve, client):
    """Its last words are heard to their end: what is not heard would be taken from its buffers."""
    server = serve("moving:handle", "--workers", "1", files={"moving.py": MOVING})
    (worker,) = server.workers()
    some = [client(server) for _ in range(MANY)]
    server.wait_connections(live=MANY, handed=MANY)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for one in some:
            one.sock.sendall(b"go\nbefore ")
        server.wait_log("MOVES", MANY)
        server.wait_read(some[-1])
        os.kill(worker, signal.SIGKILL)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    server.wait_log(f"worker {worker} ended")
    for one in some:
        one.sock.sendall(b"and behind\n")
    answers = {line_of(one) for one in some}
    assert answers == {b"before and behind after moved\n"}


PROXY = """
import asyncio, socket

async def one_that_dies():
    ours, theirs = socket.socketpair()
    theirs.close()
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        await reader.readexactly(10)
    finally:
        writer.close()

async def handle(conn):
    await conn.readline()
    await conn.write(b"part of it")
    await one_that_dies()

async def stream(reader, writer):
    await reader.readline()
    writer.write(b"part of it")
    await writer.drain()
    await one_that_dies()

def exits(sock):
    sock.recv(10)
    sock.sendall(b"part of it")
    raise SystemExit(1)
"""


@pytest.mark.parametrize("name", ["handle", "stream", "exits"])
def test_a_handler_that_fails_over_what_is_not_its_client_resets(serve, client, name):
    server = serve(f"proxy:{name}", "--workers", "1", files={"proxy.py": PROXY})
    one = client(server)
    one.sock.sendall(b"ask\n")
    assert one.cut() == (b"part of it", True)
