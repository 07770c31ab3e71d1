"""Ends: idle connections that have to end, and handlers that have let go of their socket already."""

import pytest

EARLY = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"no"})
"""


@pytest.mark.parametrize("custody", ["on", "off"])
def test_who_was_answered_early_and_sends_no_more_is_closed_after_keep_alive(serve, client, custody):
    flags = ["--keep-alive", "0.5", "--lifespan", "off", "--custody", custody]
    server = serve("early:app", "--workers", "1", *flags, files={"early.py": EARLY})
    one = client(server)
    one.sock.settimeout(8)
    one.sock.sendall(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\n")
    assert one.answer() == (200, "no")
    assert one._file.read() == b""


AWAY = """
import asyncio, os, time

def detaches(sock):
    sock.sendall(b"part")
    number = sock.detach()
    while True:
        time.sleep(0.1)

async def closes(reader, writer):
    writer.write(b"part")
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(1000)
"""


def test_a_thread_that_detached_its_socket_is_no_trouble_at_the_end(serve, client):
    server = serve("away:detaches", "--workers", "1", "--graceful-timeout", "1", files={"away.py": AWAY})
    one = client(server)
    assert one.sock.recv(4) == b"part"
    server.kill(15)
    server.wait_end()
    assert "Traceback" not in server.log()
    assert "killed" not in server.log()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_handler_that_closed_and_is_cancelled_is_no_trouble_at_the_end(serve, client, loop):
    flags = ["--graceful-timeout", "1", "--loop", loop]
    server = serve("away:closes", "--workers", "1", *flags, files={"away.py": AWAY})
    one = client(server)
    assert one.cut() == (b"part", False)
    server.kill(15)
    server.wait_end()
    assert "Traceback" not in server.log()
