"""Dispatchers that die after a random line of their code, under clients of all kinds: nobody notices.

The environment chooses what is played: FDPASS_DEATHS_SEED other places, FDPASS_DEATHS how many die in the soak.
A failure is printed with the places at which the last dispatchers have died.
"""

import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from ._keeper_here import needs_keeper
from .conftest import LIMIT, request, wait_until

pytestmark = needs_keeper

HERE = Path(__file__).parent
DEATHS = 50
SOAK_DEATHS = int(os.environ.get("FDPASS_DEATHS", "1000"))
SEED = os.environ.get("FDPASS_DEATHS_SEED", "1")
CLIENTS = 8
KILL_SECONDS = 1.0  # from one death of a worker to the next: no request shall meet two
PATHS = ("/", "/", "/", "/later", "/large")


class Load:
    """A client that sends one request after the other, and checks each answer.

    Attributes:
        answered: The tokens of requests that were answered, by method.
        refused: The tokens of requests that got a 502 or a reset, by method.
        failures: What must not be.
    """

    def __init__(self, server, connect, number):
        self.server, self.connect, self.number = server, connect, number
        self.random = random.Random(f"{SEED} {number}")
        self.answered, self.refused = {"GET": [], "POST": []}, {"GET": [], "POST": []}
        self.failures = []
        self.serial = 0
        self.one = connect(server)

    def run(self, over, kills):
        try:
            while not over.is_set():
                self.ask(kills)
                if self.number % 2:
                    self.one.close()
                    self.one = self.connect(self.server)
        except Exception as error:
            self.failures.append(f"{self.token}: {error!r}")
        self.one.close()

    def ask(self, kills):
        """A request, in two halves: some workers retire between them."""
        chance = self.random
        method, path = chance.choice(["GET", "POST"]), chance.choice(PATHS)
        self.token = f"{self.number}x{self.serial}x"
        self.serial += 1
        body = self.token.encode() * chance.choice([1, 100, 3000]) if method == "POST" else None
        data = request(path, self.token, method, body)
        half = chance.choice([0, 0, chance.randrange(len(data))])
        began = time.monotonic()
        if half:
            self.one.sock.sendall(data[:half])
            time.sleep(chance.uniform(0, 0.02))
        self.one.sock.sendall(data[half:])
        try:
            status, answer = self.one.answer()
        except (EOFError, ConnectionError):
            status, answer = 0, ""
        if status in {0, 502}:
            met = sum(began <= kill <= time.monotonic() for kill in list(kills))
            assert met >= (1 if method == "POST" else 2), f"{method}: {status}, and it met {met} deaths of workers"
            self.refused[method].append(self.token)
            self.one.close()
            self.one = self.connect(self.server)
            return
        assert status == 200
        assert self.token in answer[:200] if path != "/large" else set(answer.split(self.token)) <= self.rest()
        self.answered[method].append(self.token)

    def rest(self):
        """What may be left of a large answer between two tokens, and behind the last."""
        return {self.token[:count] for count in range(len(self.token))}


def descriptors(server):
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def places(server):
    with contextlib.suppress(FileNotFoundError):
        return (server.folder / "deaths").read_text().splitlines()
    return []


def disturb(server, chance, kills, *, kill):
    """Let a worker retire, or reload; or kill a worker, if another one serves."""
    with contextlib.suppress(Exception):  # there is no dispatcher at the moment
        pids = server.workers()
        what = chance.choice(["retire", "reload", "kill", "kill"] if kill else ["retire", "reload"])
        if what == "reload":
            server.kill(signal.SIGHUP)
        elif what == "retire" and pids:
            os.kill(chance.choice(pids), signal.SIGTERM)
        elif len(pids) > 1:
            kills.append(time.monotonic())
            os.kill(chance.choice(pids), signal.SIGKILL)


def play(kept, client, deaths, flags, *, kill):
    """Load, until so many dispatchers have died; then all is as before."""
    server = kept(
        "--keeper", "on", "--spare", "1", *flags,
        launch=(sys.executable, str(HERE / "dying_keeper.py")),
        env={"FDPASS_DEATHS_SEED": SEED},
    )  # fmt: skip
    with contextlib.closing(client(server)) as first:
        first.ask().told()
    server.wait_status(lambda status: [w["state"] for w in status["workers"]] == ["ready"] * 3)
    server.wait_connections(live=0)
    before = descriptors(server)
    over, kills, chance = threading.Event(), [], random.Random(SEED)
    loads = [Load(server, client, number) for number in range(CLIENTS)]
    threads = [threading.Thread(target=load.run, args=(over, kills)) for load in loads]
    for thread in threads:
        thread.start()
    (server.folder / "dying").touch()
    os.kill(server.status()["server"]["dispatcher"], signal.SIGKILL)
    disturbed = time.monotonic()
    limit = time.monotonic() + 5 + deaths * 1.0
    while len(places(server)) < deaths and not any(load.failures for load in loads):
        assert time.monotonic() < limit, f"only {len(places(server))} have died:\n{server.log()[-3000:]}"
        if time.monotonic() > disturbed + KILL_SECONDS:
            disturbed = time.monotonic()
            disturb(server, chance, kills, kill=kill)
        time.sleep(0.02)
    (server.folder / "dying").unlink()
    over.set()
    for thread in threads:
        thread.join(LIMIT)
    judge(server, loads, kills, before)


def judge(server, loads, kills, before):
    """Check what the clients and the application have noted, and that nothing is left over."""
    found = [failure for load in loads for failure in load.failures]
    assert not found, (found, places(server)[-5:], server.log()[-3000:])
    counts = Counter(token for token, _, _ in server.executed())
    posts = [token for load in loads for token in load.answered["POST"]]
    assert all(counts[token] == 1 for token in posts)
    assert all(counts[token] <= 1 for load in loads for token in load.refused["POST"])
    gets = [token for load in loads for token in load.answered["GET"]]
    assert sum(counts[token] > 1 for token in gets) <= len(kills) * CLIENTS
    server.wait_connections(live=0)
    server.wait_status(lambda status: [w["state"] for w in status["workers"]] == ["ready"] * 3)
    wait_until(lambda: descriptors(server) <= before, f"{before} descriptors: ", lambda: descriptors(server))
    refused = [sum(len(load.refused[method]) for load in loads) for method in ("GET", "POST")]
    print(
        f"\n{len(places(server))} dispatchers and {len(kills)} workers died; {len(gets)} GET, {len(posts)} POST, "
        f"refused: {refused[0]} GET (each met two deaths of workers), {refused[1]} POST; {before} descriptors"
    )


@pytest.mark.parametrize(
    ("flags", "kill"), [((), False), (("--loop", "uvloop"), True)], ids=["dispatchers", "workers-too-uvloop"]
)
def test_dispatchers_that_die_after_any_line_cost_nothing(kept, client, flags, kill):
    play(kept, client, DEATHS // 2, flags, kill=kill)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kill", [False, True], ids=["dispatchers", "workers-too"])
def test_many_dispatchers_that_die_after_any_line_cost_nothing(kept, client, kill):
    play(kept, client, SOAK_DEATHS // 2, ("--loop", "uvloop"), kill=kill)
