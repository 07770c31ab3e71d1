"""A client that ends its side while its WebSocket opens: what it had sent reaches the application."""

import socket

import pytest

from ._websockets import frame

pytest.importorskip("websockets")

APP = """
import os, time

async def app(scope, receive, send):
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    with open(os.environ["NOTES"], "a") as notes:
        notes.write("accepted\\n")
    while not os.path.exists(os.environ["NOTES"] + ".go"):
        time.sleep(0.01)  # the loop learns of message and end in one moment
    message = await receive()
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(str(message.get("text")) + "\\n")
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("path", ["/ws", "/other"])
def test_a_message_and_the_end_of_the_client_right_behind_the_handshake(serve, tmp_path, tools, loop, path):
    notes = tmp_path / "notes"
    notes.touch()
    flags = ("--resume", "/ws", "--loop", loop, "--workers", "1")
    server = serve("app:app", *flags, files={"app.py": APP}, env={"NOTES": str(notes)})
    with socket.create_connection(server.address) as client:
        client.sendall(
            b"GET %b HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % path.encode()
        )
        assert client.recv(12) == b"HTTP/1.1 101"
        client.sendall(frame("hello"))
        client.shutdown(socket.SHUT_WR)
        (tmp_path / "notes.go").touch()
        tools.wait_until(lambda: "hello" in notes.read_text(), "the message is there: ", server.log)
    server.wait_connections(live=0)
    assert "Traceback" not in server.log()
