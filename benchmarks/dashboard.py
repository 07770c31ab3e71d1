"""What watching costs: processor time per request with and without a dashboard, of a poll, and of a scrape.

Run ``python benchmarks/dashboard.py [--seconds 5] [--rounds 5]``. benchmarks/README.md says how it is measured.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from _serve_load import measured
from _serve_processes import HOST, Server, free_port, processor_time, running

from fdpass.serve.operator.client import ask, connected

CLIENTS = 32  # busy, over keep-alive connections
STREAMS = 20  # pages that are open
WORKERS = 2
POLLS = 1000
SCRAPES = 10


@dataclass
class Dashboard:
    """A running dashboard."""

    pid: int
    port: int

    def scrape(self) -> tuple[float, int]:
        """Seconds of one scrape, and its bytes."""
        began = time.perf_counter()
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        connection.request("GET", "/metrics")
        size = len(connection.getresponse().read())
        connection.close()
        return time.perf_counter() - began, size


@contextmanager
def dashboard(server: Server) -> Iterator[Dashboard]:
    port, control = free_port(), server.log.parent / "ctl"
    command = [sys.executable, "-m", "fdpass", "dashboard", "--control", str(control), "--bind", f"{HOST}:{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield Dashboard(process.pid, port)
        finally:
            process.terminate()


@contextmanager
def watched(shown: Dashboard) -> Iterator[None]:
    """Scrape once a second, and keep pages open."""
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(1):
            shown.scrape()

    def look() -> None:
        connection = http.client.HTTPConnection(HOST, shown.port, timeout=10)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/events")
            response = connection.getresponse()
            while not over.is_set():
                response.readline()
        connection.close()

    threads = [threading.Thread(target=scrape), *(threading.Thread(target=look) for _ in range(STREAMS))]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def load(server: Server, seconds: float) -> tuple[float, float]:
    """Processor time of all processes of the server per request in µs, and requests a second."""
    found = measured(port=server.port, seconds=seconds, busy=CLIENTS, warmup=0.5, watched=tuple(server.members))
    assert not found.failed, found.failed
    return sum(found.cpu.values()) / found.requests * 1e6, found.requests / found.seconds


def compare(server: Server, seconds: float, rounds: int) -> None:
    """Alternate between no dashboard, and one that is scraped and looked at."""
    alone: list[float] = []
    beside: list[float] = []
    rates: list[float] = []
    for _ in range(rounds):
        alone.append(load(server, seconds)[0])
        with dashboard(server) as shown, watched(shown):
            cost, rate = load(server, seconds)
            beside.append(cost)
            rates.append(rate)
    ratio = statistics.median(new / old for new, old in zip(beside, alone, strict=True))
    print(f"processor time per request: {statistics.median(alone):.2f} µs alone, ", end="")
    print(f"{statistics.median(beside):.2f} µs with a dashboard; the median of the ratios is {ratio:.3f}")
    print(f"requests a second meanwhile: {statistics.median(rates):,.0f}")


def cost_of_polls(server: Server) -> None:
    """What a poll takes in the dispatcher."""
    control, pid = str(server.log.parent / "ctl"), server.process.pid
    before = processor_time(pid)
    last = ask(control, "events")["last"]
    for _ in range(POLLS):
        with connected(control) as channel:
            for request in ({"do": "status"}, {"do": "events", "after": last}):
                channel.send(json.dumps(request).encode())
                channel.recv()
    print(f"a poll takes the dispatcher {(processor_time(pid) - before) / POLLS * 1e6:.0f} µs, once a second")


def cost_of_dashboard(server: Server) -> None:
    """What scrapes and pages take in the dashboard."""
    with dashboard(server) as shown:
        time.sleep(1)
        before = processor_time(shown.pid)
        time.sleep(SCRAPES)
        idle = (processor_time(shown.pid) - before) / SCRAPES
        print(f"the dashboard takes {idle * 1e3:.1f} ms of processor time a second while nobody looks")
        times, size = [], 0
        before = processor_time(shown.pid)
        for _ in range(SCRAPES):
            seconds, size = shown.scrape()
            times.append(seconds)
            time.sleep(1)
        cost = (processor_time(shown.pid) - before) / SCRAPES - idle
        print(f"a scrape of {size:,} bytes takes {statistics.median(times) * 1e3:.1f} ms", end="")
        print(f", and {cost * 1e3:.1f} ms of processor time")
        before = processor_time(shown.pid)
        with watched(shown):
            time.sleep(SCRAPES)
        cost = (processor_time(shown.pid) - before) / SCRAPES
        print(f"with {STREAMS} open pages and a scrape a second it takes {cost * 1e3:.1f} ms a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with running("fdpass", WORKERS) as server:
        cost_of_polls(server)
        cost_of_dashboard(server)
        compare(server, options.seconds, options.rounds)


if __name__ == "__main__":
    main()
