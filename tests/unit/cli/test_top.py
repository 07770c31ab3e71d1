"""The screen of ``fdpass top``, and what its keys do."""

import io
import threading

import pytest
from rich.console import Console

from fdpass._cli.top_screen import View, split
from fdpass.errors import RequestFailed

from ._status import status, worker

EVENT = {"time": "2026-11-26T10:00:00.000Z", "level": "error", "message": "worker 7 ended\nTraceback"}


class FakeServer:
    """Answers requests; those that take time wait for `release`."""

    def __init__(self):
        self.figures = status(worker(7), worker(8), worker(9))
        self.events = [EVENT]
        self.asked = []
        self.released = threading.Event()
        self.refuses = ""

    def ask(self, path, verb, **arguments):
        assert path == "/run/fdpass.sock"
        if verb == "status":
            return self.figures
        if verb == "events":
            events, self.events = self.events, []
            return {"events": events, "last": 1}
        self.asked.append((verb, arguments))
        assert self.released.wait(30)
        if self.refuses:
            raise RequestFailed(self.refuses)
        return {"generation": 2, "workers": arguments.get("workers")}


@pytest.fixture
def server():
    return FakeServer()


@pytest.fixture
def view(server):
    return View("/run/fdpass.sock", server.figures, server.ask)


def done(view, server):
    """Wait until the action is done; returns the message."""
    server.released.set()
    view._busy.join(30)
    return view.message


def shown(view, height=30):
    console = Console(file=io.StringIO(), width=80, height=height, highlight=False)
    console.print(view.picture(console))
    return console.file.getvalue().splitlines()


def test_the_screen_has_the_figures_the_first_lines_of_events_and_the_keys(view):
    view.look()
    lines = shown(view)
    assert lines[0] == "shop.main:app at 127.0.0.1:8000"
    assert "2026-11-26 10:00:00 error: worker 7 ended" in lines
    assert lines[-1].startswith("r reload")


def test_a_small_screen_has_the_newest_events_that_fit(view, server):
    server.events = [EVENT | {"message": f"event {number}"} for number in range(40)]
    view.look()
    lines = shown(view, height=16)
    assert len(lines) == 16
    assert [line[-8:] for line in lines if "event " in line] == ["event 36", "event 37", "event 38", "event 39"]
    assert not any("error" in line for line in shown(view, height=5))


def test_keys_reload_scale_and_replace(view, server):
    for keys, request, message in (
        (["r"], ("reload", {}), "reload: generation 2 serves"),
        (["+"], ("scale", {"workers": 4}), "scale: 4 workers"),
        (["-"], ("scale", {"workers": 2}), "scale: 2 workers"),
        (["\x1b[B", "j", "x"], ("retire", {"pid": 8}), "retire: worker 8 has retired"),
        (["\x1b[A", "k", "x"], ("retire", {"pid": 9}), "retire: worker 9 has retired"),
    ):
        for key in keys:
            view.press(key)
        assert done(view, server) == message
        assert server.asked[-1] == request


def test_a_second_action_waits_for_nothing_and_is_not_done(view, server):
    view.press("r")
    view.press("+")
    assert view.message == "scale: the action before is not done yet"
    done(view, server)
    assert server.asked == [("reload", {})]


def test_a_refusal_is_shown_in_one_line(view, server):
    server.refuses = "the application failed to start: SyntaxError\nTraceback"
    view.press("r")
    assert done(view, server) == "reload: the application failed to start: SyntaxError"


def test_x_needs_a_selected_worker_and_q_ends_the_view(view, server):
    view.press("x")
    assert view.message == "select a worker with the arrows first"
    assert (server.asked, view.over) == ([], False)
    view.press("q")
    assert view.over


def test_what_a_terminal_sends_is_split_into_keys():
    assert split("r\x1b[A\x1bOBx") == ["r", "\x1b[A", "\x1bOB", "x"]
