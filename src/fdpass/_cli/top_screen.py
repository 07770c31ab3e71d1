"""The screen of ``fdpass top``: it is drawn anew at each look and at each key."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from fdpass._cli.common import sentence
from fdpass._cli.events import line
from fdpass._cli.status_picture import picture
from fdpass._cli.streams import echo
from fdpass._words import counted
from fdpass.errors import FdpassError
from fdpass.serve.operator.client import ask

_KEYS = "r reload   + - workers   ↑ ↓ select   x replace   q quit"
_UP, _DOWN = {"\x1b[A", "\x1bOA", "k"}, {"\x1b[B", "\x1bOB", "j"}
_STYLES = {"warning": "yellow", "error": "red", "critical": "bold red"}
_EVENTS = 50  # kept for the screen


class View:
    """What the screen shows, and what keys do.

    Args:
        path: The server's control socket.
        status: The figures of the server.
        ask: Sends a request to the server.

    Attributes:
        over: The key q was pressed.
        message: What the last key has done.
    """

    def __init__(self, path: str, status: dict[str, Any], ask: Callable[..., dict[str, Any]] = ask) -> None:
        self._path = path
        self._ask = ask
        self._status = status
        self._selected = 0  # the process number of a worker
        self._events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)
        self._last = 0
        self._busy: threading.Thread | None = None
        self.over = False
        self.message = ""

    def look(self) -> None:
        """Ask for the figures and the new events.

        Raises:
            FdpassError: The server has ended.
        """
        self._status = self._ask(self._path, "status")
        reply = self._ask(self._path, "events", after=self._last)
        self._events.extend(reply["events"])
        self._last = reply["last"]

    def press(self, key: str) -> None:
        """Do what a key says; what takes time is done in a thread."""
        if key == "q":
            self.over = True
        elif key in _UP:
            self._select(-1)
        elif key in _DOWN:
            self._select(1)
        elif key == "r":
            self._start("reload", lambda reply: f"generation {reply['generation']} serves")
        elif key in {"+", "-"}:
            workers = self._status["server"]["workers_wanted"] + (1 if key == "+" else -1)
            self._start("scale", lambda reply: counted(reply["workers"], "worker"), workers=workers)
        elif key == "x" and self._selected:
            pid = self._selected
            self._start("retire", lambda _: f"worker {pid} has retired", pid=pid)
        elif key == "x":
            self.message = "select a worker with the arrows first"

    def _select(self, step: int) -> None:
        pids = [worker["pid"] for worker in self._status["workers"]]
        if not pids:
            return
        place = pids.index(self._selected) + step if self._selected in pids else (0 if step > 0 else -1)
        self._selected = pids[place % len(pids)]

    def _start(self, verb: str, done: Callable[[dict[str, Any]], str], **arguments: Any) -> None:
        if self._busy is not None and self._busy.is_alive():
            self.message = f"{verb}: the action before is not done yet"
            return

        def run() -> None:
            try:
                self.message = f"{verb}: {done(self._ask(self._path, verb, **arguments))}"
            except FdpassError as error:
                self.message = f"{verb}: {sentence(error).splitlines()[0]}"

        self.message = f"{verb} ..."
        self._busy = threading.Thread(target=run, daemon=True)
        self._busy.start()

    def picture(self, console: Console) -> RenderableType:
        """Make what is shown: the figures, as many events as fit, and the keys."""
        figures = picture(self._status, self._selected)
        room = console.height - len(console.render_lines(figures, pad=False)) - 4
        events = [
            Text(line(event).splitlines()[0], _STYLES.get(event["level"], ""), no_wrap=True, overflow="ellipsis")
            for event in list(self._events)[-room:]
        ]
        blank = Text("")
        bottom = Text(self.message, "bold", no_wrap=True, overflow="ellipsis"), Text(_KEYS, "dim")
        return Group(figures, blank, *(events if room > 0 else ()), blank, *bottom)


def show(path: str, status: dict[str, Any], every: float) -> None:
    """Show the server until q or its end.

    Args:
        path: The server's control socket.
        status: Its figures.
        every: The seconds between two looks.
    """
    view, console = View(path, status), Console(highlight=False)
    due = time.monotonic()
    with _keys(sys.stdin.fileno()) as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while not view.over:
            if time.monotonic() >= due:
                due = time.monotonic() + every
                try:
                    view.look()
                except FdpassError:
                    break
            live.update(view.picture(console), refresh=True)
            for key in pressed(max(0.0, due - time.monotonic())):
                view.press(key)
    if not view.over:
        echo("the server has ended")


@contextlib.contextmanager
def _keys(number: int) -> Iterator[Callable[[float], list[str]]]:
    """Read keys of a terminal one by one; yields a function that waits for them for so many seconds."""
    before = termios.tcgetattr(number)
    mode = termios.tcgetattr(number)
    mode[3] &= ~(termios.ICANON | termios.ECHO)
    mode[6][termios.VSUSP] = b"\0"  # Ctrl-Z would leave the terminal in this mode
    termios.tcsetattr(number, termios.TCSADRAIN, mode)

    def pressed(seconds: float) -> list[str]:
        if not select.select([number], [], [], seconds)[0]:
            return []
        text = os.read(number, 64).decode(errors="replace")
        return split(text) if text else ["q"]  # the terminal has gone

    try:
        yield pressed
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def split(text: str) -> list[str]:
    """Split what a terminal has sent into keys: an arrow is three characters."""
    keys = []
    while text:
        length = 3 if text.startswith(("\x1b[", "\x1bO")) else 1
        keys.append(text[:length])
        text = text[length:]
    return keys
