"""A protocol of lines whose connections outlive their workers: each line is answered with the sum so far.

Serve it:  fdpass serve counting:handle --app-dir examples
Talk to it: nc 127.0.0.1 8000, then type numbers; between them, kill a worker (see fdpass status) or fdpass reload.

Run this file as a program to see that: it starts the server, kills the worker after each line, and shows what the
client sees.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile

from fdpass.serve import Connection

STATE = struct.Struct("=Qd")  # how many numbers, and their sum; a state has at most 64 bytes


async def handle(conn: Connection) -> None:
    """Answer numbers. The position read, the reply and the state change together, in whichever worker."""
    count, total = STATE.unpack(conn.state) if conn.state else (0, 0.0)
    while line := await conn.readline():
        try:
            number = float(line)
        except ValueError:
            await conn.commit(conn.state, b"not a number\n")
            continue
        count, total = count + 1, total + number
        reply = f"{count} so far, sum {total:g} (worker {os.getpid()})\n"
        await conn.commit(STATE.pack(count, total), reply.encode())


def main() -> None:
    """Run a client that never reconnects, and kill its worker after each line."""
    with tempfile.TemporaryDirectory() as folder:
        control = os.path.join(folder, "control")
        fdpass = [sys.executable, "-m", "fdpass"]
        here = os.path.dirname(os.path.abspath(__file__))
        command = [*fdpass, "serve", "counting:handle", "--bind", "127.0.0.1:0", "--control", control]
        with subprocess.Popen([*command, "--workers", "2", "--log-level", "critical"], cwd=here) as server:
            try:
                host, port = listening(server, [*fdpass, "status", "--json", "--control", control])
                with socket.create_connection((host, port)) as client:
                    for number in (b"1.5\n", b"2\n", b"30\n"):
                        client.sendall(number)
                        answer = client.recv(1000).decode().strip()
                        print(answer)
                        os.kill(int(answer.rpartition(" ")[2].rstrip(")")), signal.SIGKILL)
                print("one connection, three workers")
            finally:
                server.terminate()


def listening(server: subprocess.Popen[bytes], status: list[str]) -> tuple[str, int]:
    """Wait until the server listens, and return its address."""
    while server.poll() is None:
        told = subprocess.run(status, capture_output=True, check=False)
        if told.returncode == 0:
            host, _, port = json.loads(told.stdout)["server"]["listeners"][0].rpartition(":")
            return host, int(port)
    raise SystemExit("the server did not start")


if __name__ == "__main__":
    main()
