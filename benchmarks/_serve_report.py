"""The tables that serve.py prints, and its goals."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

OURS = "fdpass"
LOADS = {
    "keep-alive": "request",
    "connection per request": "connection",
    "websocket": "message",
    "fastapi": "request",
}
ALONE = ("held", "memory")
EVENTS = {"reload": "three reloads", "kill": "kill -9 of a worker"}
HANDOFF = "handoff"
GOALS = (  # figure, server to compare with, greatest ratio
    ("keep-alive", "uvicorn", 0.8),
    ("keep-alive", "granian", 1.0),
    ("connection per request", "uvicorn", 0.95),
    ("connection per request", "node", 0.5),
    ("websocket", "uvicorn", 1.1),
    ("fastapi", "uvicorn", 1.0),
    ("memory", "uvicorn", 1.05),
)
GOAL_OF_HANDOFF = 1.2
Row = dict[str, Any]
Rows = dict[str, list[Row]]  # keys are servers; a row for each round


def middle(rows: list[Row], key: str) -> float:
    return float(median(row[key] for row in rows))


def ratio(ours: list[Row], theirs: list[Row], key: str) -> Row:
    """Our figure divided by theirs, within a round: median, least and greatest."""
    each = [our[key] / their[key] for our, their in zip(ours, theirs, strict=True)]
    return {"ratio": median(each), "least": min(each), "greatest": max(each)}


def beside(name: str, rows: Rows, key: str) -> str:
    if name == OURS or OURS not in rows:
        return ""
    return "{ratio:.2f} ({least:.2f} to {greatest:.2f})".format(**ratio(rows[OURS], rows[name], key))


def load_table(kind: str, rows: Rows) -> Iterator[str]:
    unit = LOADS[kind]
    yield f"{kind:24}{unit + 's/s':>14}{'p50 ms':>9}{'p99 ms':>9}{f'CPU µs a {unit}':>22}  fdpass / this, CPU"
    for name, found in rows.items():
        rate, p50, p99, cpu = (middle(found, key) for key in ("rate", "p50", "p99", "cpu"))
        failed = sum(row["failed"] for row in found)
        yield (
            f"  {name:22}{rate:14.0f}{p50 * 1e3:9.2f}{p99 * 1e3:9.2f}{cpu:22.1f}  {beside(name, rows, 'cpu')}"
            + (f"  {failed} FAILED" if failed else "")
        )


def memory_table(rows: Rows) -> Iterator[str]:
    yield f"{'memory':24}{'MB a worker':>14}{'all, MB':>9}{'fdpass / this, a worker':>40}"
    for name, found in rows.items():
        worker, whole = middle(found, "worker") / 1e6, middle(found, "all") / 1e6
        yield f"  {name:22}{worker:14.1f}{whole:9.1f}{beside(name, rows, 'worker'):>40}"


def uneven(counts: list[int]) -> int:
    return counts[0] - counts[-1]


def held_table(rows: Rows) -> Iterator[str]:
    yield f"{'held':24}streams of each worker, in the round of middling difference; largest less smallest"
    for name, found in rows.items():
        told = []
        for way in ("burst", "one by one"):
            counts = sorted((row[way] for row in found), key=uneven)[len(found) // 2]
            told.append(f"{way}: {' '.join(map(str, counts))}; {uneven(counts)}")
        yield f"  {name:22}{told[0]:28}{told[1]}"


def event_table(kind: str, rows: Rows) -> Iterator[str]:
    columns = f"{'requests':>14}{'failed':>9}{'reconnects':>12}{'slowest ms':>12}{'took s':>8}  failed how"
    yield f"{EVENTS[kind]:24}{columns}"
    for name, found in rows.items():
        for row in found:
            how = ", ".join(f"{count} {what}" for what, count in row["kinds"].items())
            yield (
                f"  {name:22}{row['requests']:14}{row['failed']:9}{row['reconnects']:12}"
                f"{row['slowest'] * 1e3:12.0f}{row['took']:8.1f}  {'; '.join(filter(None, (how, row['outcome'])))}"
            )


def handoff_line(row: Row) -> str:
    first, second = (
        f"{name}: {cpu:.1f} µs at {rate:.0f}/s"
        for name, cpu, rate in zip(row["cases"], row["cpu"], row["rate"], strict=True)
    )
    return (
        f"  {row['load']:10}{second} / {first}: {row['ratio']:.2f} ({row['least']:.2f} to {row['greatest']:.2f})"
        + (f"  {row['failed']} FAILED" if row["failed"] else "")
    )


def table(kind: str, rows: Rows) -> Iterator[str]:
    if kind in LOADS:
        return load_table(kind, rows)
    if kind in EVENTS:
        return event_table(kind, rows)
    return memory_table(rows) if kind == "memory" else held_table(rows)


def goals(results: dict[str, Rows], handoff: list[Row]) -> Iterator[Row]:
    for kind, other, goal in GOALS:
        rows = results.get(kind, {})
        if OURS in rows and other in rows:
            key = "worker" if kind == "memory" else "cpu"
            name = f"{kind}, {'bytes a worker' if kind == 'memory' else 'CPU'}, fdpass / {other}"
            yield {"name": name, **ratio(rows[OURS], rows[other], key), "goal": goal}
    for row in handoff:
        name = f"handoff, CPU, {row['load']}, {' / '.join(reversed(row['cases']))}"
        yield {"name": name, **{key: row[key] for key in ("ratio", "least", "greatest")}, "goal": GOAL_OF_HANDOFF}


def goal_line(row: Row) -> str:
    return "  {name}: {ratio:.2f}, goal at most {goal}: ".format(**row) + (
        "yes" if row["ratio"] <= row["goal"] else "NO"
    )
