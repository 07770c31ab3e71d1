"""The figures of a server in 80 columns."""

import io

import pytest
from rich.console import Console

from fdpass._cli.status_picture import WIDTH, duration, milliseconds, number, picture, quantile, size

from ._status import BOUNDS, status, worker


def shown(figures, width=WIDTH, **more):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(picture(figures, **more))
    return console.file.getvalue().splitlines()


def test_what_is_zero_is_not_shown():
    assert shown(status(worker(7), worker(8, "starting"))) == [
        "shop.main:app at 127.0.0.1:8000",
        "fdpass 0.1.0, dispatcher 1000, generation 1, up 5 s",
        "requests     0/s",
        "connections  none yet",
        "worker  gen  state     connections  requests  handled  req/s  lag ms  MiB",
        "     7    1  ready               0         0        0      0     0.0   40",
        "     8    1  starting            0         0        0      0     0.0   40",
    ]


def busy():
    """As large as figures get."""
    large = 2_000_000_000
    figures = status(
        *(
            worker(
                4_194_303, "retiring", connections=65_536, requests=65_536, handled=large, rate=99_999.5, rss=large
            )
            for _ in range(3)
        )
    )
    figures["connections"] = dict.fromkeys((*figures["connections"], "told_to_reconnect", "answered_502"), large)
    figures["requests"] |= {
        "in_progress": large,
        "responses": dict.fromkeys(figures["requests"]["responses"], large),
    }
    figures["recent"] |= {"handled": large, "latency": [5] * 22}
    figures["bytes"] = {"received": large**2, "sent": large}
    figures["waits"] = {"count": large, "seconds": 1e7, "waiting": True}
    figures["listeners"] = [
        {"address": f"10.0.0.{n}:8000", "backlog": 2048, "backlog_max": 2048} for n in range(9)
    ]
    figures["deaths"] = {
        "SIGKILL": large,
        "graceful timeout": large,
        "exit 255": large,
        "hang": large,
        "deaf": large,
    }
    figures["reloads"] = {"succeeded": large, "failed": large, "refused": large, "in_progress": True}
    return figures


def test_the_reason_of_a_failed_start_is_shown_in_lines_that_fit():
    figures = status(worker(7), starts={"started": 9, "failed": 7, "restarts": 1})
    assert "starts       7 failed, 1 restarts" in shown(figures)
    figures["starts"]["failure"] = "the application failed to start: OSError: \x1b[31mno database answers"
    lines = shown(figures)
    at = lines.index("starts       7 failed, 1 restarts")
    assert lines[at + 1 : at + 3] == [
        "last failure the application failed to start: OSError: \\x1b[31mno database",
        "             answers",
    ]
    figures["starts"]["failure"] = "word " * 1000
    lines = shown(figures)
    assert max(map(len, lines)) <= WIDTH
    assert sum("word" in line for line in lines) == 3


def test_no_line_is_wider_than_80_columns_or_broken_within_a_figure():
    lines = shown(busy())
    assert max(map(len, lines)) <= WIDTH
    assert all(line.rstrip(",")[-1].isalnum() for line in lines)
    assert sum("retiring" in line for line in lines) == 3
    assert any(line.endswith(",") for line in lines)


def test_the_rate_and_the_times_are_those_of_the_last_moments():
    figures = status(worker(7))
    figures["recent"] |= {"handled": 2469, "latency": [0, 90, 0, 9, 0, 1, *[0] * 16]}
    assert shown(figures)[2] == "requests     1,234/s, half within 0.2 ms, 99 % within 0.8 ms"


def test_a_stop_and_the_causes_of_deaths_are_shown():
    figures = status(worker(7), deaths={"SIGKILL": 2, "hang": 1})
    figures["server"]["stopping"] = True
    lines = shown(figures)
    assert lines[1].endswith("up 5 s, stopping")
    assert "deaths       2 SIGKILL, 1 hang" in lines


@pytest.mark.parametrize(
    ("share", "bound"), [(0.5, 0.0002), (0.9, 0.0002), (0.99, 0.0128), (1.0, float("inf"))], ids=str
)
def test_a_quantile_is_the_bound_of_its_bucket(share, bound):
    counts = [0, 90, *[0] * 5, 9, *[0] * 13, 1]
    assert quantile(counts, BOUNDS, share) == bound


def test_numbers_sizes_and_durations_are_short():
    assert [number(value) for value in (0, 1234, 999_999, 12_345_678, 10**10, 10**13)] == [
        "0",
        "1,234",
        "999,999",
        "12.3 M",
        "10.0 G",
        "10.0 T",
    ]
    assert [size(value) for value in (0, 1023, 1024, 10**9, 10**16)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "953.7 MiB",
        "9,094.9 TiB",
    ]
    assert [duration(value) for value in (0, 59.9, 60, 185, 3600, 3661, 90_000, 86_400)] == [
        "0 s",
        "59 s",
        "1 min",
        "3 min 5 s",
        "1 h",
        "1 h 1 min",
        "1 d 1 h",
        "1 d",
    ]
    assert [milliseconds(value) for value in (0.0001, 0.0128, 0.8192, 104.8576, float("inf"))] == [
        "0.1 ms",
        "12.8 ms",
        "819 ms",
        "105 s",
        "more than 105 s",
    ]
