"""Clients that are gone before anybody has accepted them."""

import pytest

ENGINES = """
import os
from app import app

async def stream(reader, writer):
    await reader.readline()
    writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n%d" % (len(str(os.getpid())), os.getpid()))
    await writer.drain()

def blocking(sock):
    sock.recv(1000)
    sock.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n%d" % (len(str(os.getpid())), os.getpid()))

def listener(listener):
    try:
        while True:
            sock, _ = listener.accept()
            with sock:
                try:
                    blocking(sock)
                except OSError:
                    pass
    except OSError:
        pass
"""
GONE = 30


@pytest.mark.parametrize(
    ("app", "flags"),
    [
        ("app", ("--accept", "dispatcher", "--balance", "hash")),
        ("app", ("--accept", "worker", "--loop", "asyncio")),
        ("stream", ("--interface", "stream")),
        ("blocking", ("--interface", "blocking", "--accept", "worker")),
        ("listener", ("--interface", "listener")),
    ],
    ids=["asgi", "asgi on asyncio, workers accept", "stream", "blocking, workers accept", "listener"],
)
def test_clients_that_reset_before_they_are_accepted_disturb_nobody(serve, client, tools, app, flags):
    server = serve(f"engines:{app}", *flags, files={"engines.py": ENGINES})
    before = server.workers()
    assert server.address
    with server.paused():
        for number in range(GONE):
            gone = client(server)
            if number % 2:
                gone.send()
            gone.reset()
        asked = [client(server).send(connection="close") for _ in range(10)]
    assert {one.answered() for one in asked} <= set(before)
    for one in asked:
        one.close()
    server.wait_connections(accepted=GONE + 10, finished=GONE + 10, live=0, lost=0)
    assert server.workers() == before
    assert "Traceback" not in server.log()
