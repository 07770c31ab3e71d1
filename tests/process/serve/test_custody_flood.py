"""Raw connections that move, or whose worker dies, while more than a buffer of their client's bytes waits."""

import threading

import pytest

SLOW = """
import asyncio, os

async def handle(conn):
    if not conn.state:
        await conn.readexactly(1)
        await asyncio.sleep(0.3)
        await conn.readexactly(30 * 1024)
        await asyncio.sleep(0.3)
        await conn.commit(b"1")
        os.write(1, b"COMMITTED\\n")
        if os.environ["MOVES"]:
            await conn.move()
        await asyncio.sleep(1000)
    count = 30 * 1024 + 1
    while count < 200_000:
        count += len(await conn.read())
    await conn.commit(b"", b"%d\\n" % count)
"""


@pytest.mark.parametrize("moves", ["", "yes"], ids=["dies", "moves"])
def test_a_client_that_sends_far_ahead_is_served_on_by_another_worker(serve, client, moves):
    server = serve(
        "slow:handle", "--workers", "2", "--graceful-timeout", "1", files={"slow.py": SLOW}, env={"MOVES": moves}
    )
    one = client(server)
    one.sock.settimeout(10)
    threading.Thread(target=one.sock.sendall, args=(b"x" * 200_000,), daemon=True).start()
    server.wait_log("COMMITTED")
    if not moves:
        (worker,) = [one["pid"] for one in server.status()["workers"] if one["connections"]]
        server.kill_worker(worker)
    assert one._file.readline() == b"200000\n", server.log()


BANK = """
import asyncio, os

there = asyncio.Event()

async def handle(conn):
    line = await conn.readline()
    if line == b"flood\\n":
        await there.wait()
        await conn.readexactly(30 * 1024)
        await conn.readexactly(1008)
        await asyncio.sleep(0.3)
        await conn.commit(b"flooded")
        os.write(1, b"FLOODED\\n")
        await asyncio.sleep(1000)
    there.set()
    if not conn.attempt:
        os.write(1, b"THERE\\n")
        await asyncio.sleep(1000)
    await conn.commit(b"", b"done: " + line)
"""


def test_what_a_client_sends_too_much_of_is_never_taken_for_anothers_request(serve, client):
    flags = ["--workers", "1", "--graceful-timeout", "1"]
    server = serve("bank:handle", *flags, files={"bank.py": BANK})
    attacker, victim = client(server), client(server)
    unit = b"pay 9 euro\n\0"
    threading.Thread(target=attacker.sock.sendall, args=(b"flood\n" + unit * 20_000,), daemon=True).start()
    server.wait_status(lambda status: status["workers"][0]["requests"] == 2)
    victim.sock.sendall(b"pay 1 euro\n")
    server.wait_log("THERE")
    server.wait_log("FLOODED")
    (worker,) = server.workers()
    server.kill_worker(worker)
    assert victim._file.readline() == b"done: pay 1 euro\n"
