"""What moved and was not heard is not taken from a buffer that is another connection's by now."""

import os
import signal

MANY = 200
MOVING = """
import os

async def handle(conn):
    while line := await conn.readline():
        if line == b"go\\n":
            await conn.commit(b"moved")
            os.write(1, b"MOVES\\n")
            await conn.move()
        os.write(1, b"LINE\\n")
        await conn.commit(b"", b"%b after %b\\n" % (line.strip(), conn.state))
"""


def test_what_moved_is_not_taken_from_a_buffer_that_another_has_now(serve, client):
    server = serve("moving:handle", "--workers", "1", files={"moving.py": MOVING})
    (worker,) = server.workers()
    others = [client(server) for _ in range(MANY)]
    some = [client(server) for _ in range(MANY)]
    server.wait_connections(live=2 * MANY, handed=2 * MANY)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for one in some:
            one.sock.sendall(b"go\nmine: ")
        server.wait_log("MOVES", MANY)
        server.wait_read(some[-1])
        for one in others:
            one.sock.sendall(b"a secret")  # without a line's end: it stays in its buffer
        for one in others:
            server.wait_read(one)
        os.kill(worker, signal.SIGKILL)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    server.wait_log(f"worker {worker} ended")
    answers = set()
    for one in some:
        one.sock.sendall(b"x\n")
        try:
            answers.add(one.sock.recv(100))
        except ConnectionResetError:
            answers.add(b"reset")
    assert answers == {b"mine: x after moved\n"}
