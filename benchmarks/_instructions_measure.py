"""The measuring of instructions.py: what a request makes each process of a server do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median
from typing import Any

from _instructions_load import CASES, Client
from _instructions_servers import WORKER, Counted, Reading

WARMUP = 200  # requests: by then the interpreter has specialised the code, and caches are full
IDLE_SECONDS = 2.0, 20.0  # least and most
KEPT = 40  # functions of each process
Row = dict[str, Any]


def ask(server: Counted, client: Client, times: int) -> None:
    for _ in range(times):
        client.ask()
        server.wait_asleep()


def rounds_of(server: Counted, case: str, requests: int, rounds: int) -> dict[str, list[Reading]]:
    """By process, the reading of an idle time, then that of each round.

    What a process does in idle time, for beats and timers, it does in a round as well. A beat more or less in
    either changes the result by 0.1 %, as long as the idle time is not much shorter than a round.
    """
    client, at_once = CASES[case].client(server.server.port), CASES[case].at_once
    began = time.monotonic()
    ask(server, client, WARMUP // at_once)
    least, most = IDLE_SECONDS
    pause = min(max(time.monotonic() - began, least), most)
    roles = [role for role in server.pids if role == WORKER or CASES[case].connects]
    for role in roles:
        server.read(role)
    time.sleep(pause)
    found = {role: [server.read(role)] for role in roles}
    for _ in range(rounds):
        ask(server, client, requests // at_once)
        for role in roles:
            found[role].append(server.read(role))
    client.close()
    return found


def without_idle(busy: Reading, idle: Reading, requests: int) -> dict[str, float]:
    """What a request costs each function."""
    share = busy.seconds / idle.seconds
    return {name: (count - idle.functions[name] * share) / requests for name, count in busy.functions.items()}


def costliest(functions: Mapping[str, float]) -> dict[str, int]:
    rows = sorted(functions.items(), key=lambda row: (-row[1], row[0]))[:KEPT]
    return {name: count for name, exact in rows if (count := round(exact))}


def instructions(readings: list[Reading], requests: int) -> Row:
    """Instructions a request: the median of the rounds, the spread, and those of each C function."""
    idle, *busy = readings
    each = [without_idle(one, idle, requests) for one in busy]
    totals = [sum(one.values()) for one in each]
    functions = {name: median(one.get(name, 0) for one in each) for name in set().union(*each)}
    return {
        "instructions": round(median(totals)),
        "spread": round((max(totals) - min(totals)) / median(totals), 5),
        "functions": costliest(functions),
    }


def bytecodes(readings: list[Reading], requests: int) -> Row:
    """Bytecodes a request, those of each Python function, and the calls of the same functions."""
    idle, busy = readings
    each = without_idle(busy, idle, requests)
    most = costliest(each)
    return {
        "bytecodes": round(sum(each.values())),
        "python": most,
        "calls": {name: round(busy.calls[name] / requests, 1) for name in most},
    }


def counted_row(server: Counted, case: str, requests: int, rounds: int) -> Row:
    requests = CASES[case].whole_rounds(requests)
    found = rounds_of(server, case, requests, rounds)
    return {role: instructions(readings, requests) for role, readings in found.items()}


def traced_row(server: Counted, case: str, requests: int) -> Row:
    requests = CASES[case].whole_rounds(requests)
    return {role: bytecodes(readings, requests) for role, readings in rounds_of(server, case, requests, 1).items()}
