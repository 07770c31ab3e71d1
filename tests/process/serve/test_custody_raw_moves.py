"""Raw handlers at bad moments: many that move while the dispatcher is stopped, and those that fail in a reply."""

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


def test_moved_bytes_are_kept_though_their_worker_dies_before_the_dispatcher_reads_its_messages(serve, client):
    """The dispatcher reads the dead worker's messages to the end: else it would take the bytes from buffers."""
    server = serve("moving:handle", "--workers", "1", files={"moving.py": MOVING})
    (worker,) = server.workers()
    some = [client(server) for _ in range(MANY)]
    server.wait_connections(live=MANY, handed=MANY)
    with server.paused():
        for one in some:
            one.sock.sendall(b"go\nbefore ")
        server.wait_log("MOVES", MANY)
        server.wait_read(some[-1])
        os.kill(worker, signal.SIGKILL)
    server.wait_log(f"worker {worker} ended")
    for one in some:
        one.sock.sendall(b"and behind\n")
    answers = {line_of(one) for one in some}
    assert answers == {b"before and behind after moved\n"}


def test_moved_bytes_are_not_taken_from_a_buffer_that_another_connection_has_got(serve, client):
    server = serve("moving:handle", "--workers", "1", files={"moving.py": MOVING})
    (worker,) = server.workers()
    others = [client(server) for _ in range(MANY)]
    some = [client(server) for _ in range(MANY)]
    server.wait_connections(live=2 * MANY, handed=2 * MANY)
    with server.paused():
        for one in some:
            one.sock.sendall(b"go\nmine: ")
        server.wait_log("MOVES", MANY)
        server.wait_read(some[-1])
        for one in others:
            one.sock.sendall(b"a secret")  # without a line's end: it stays in its buffer
        for one in others:
            server.wait_read(one)
        os.kill(worker, signal.SIGKILL)
    server.wait_log(f"worker {worker} ended")
    for one in some:
        one.sock.sendall(b"x\n")
    answers = {line_of(one) for one in some}
    assert answers == {b"mine: x after moved\n"}


FAILS = """
import asyncio, socket

async def read_from_a_dead_peer():
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
    await read_from_a_dead_peer()

async def stream(reader, writer):
    await reader.readline()
    writer.write(b"part of it")
    await writer.drain()
    await read_from_a_dead_peer()

def exits(sock):
    sock.recv(10)
    sock.sendall(b"part of it")
    raise SystemExit(1)
"""


@pytest.mark.parametrize("name", ["handle", "stream", "exits"])
def test_a_handler_that_fails_after_a_part_of_its_reply_resets_its_connection(serve, client, name):
    server = serve(f"fails:{name}", "--workers", "1", files={"fails.py": FAILS})
    one = client(server)
    one.sock.sendall(b"ask\n")
    assert one.cut() == (b"part of it", True)
