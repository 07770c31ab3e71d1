"""What tests of reloads share: an application that waits at its start, a module replaced, workers all ready."""

GATE = """
import os, time
while not os.path.exists("open"):
    time.sleep(0.01)
from app import app
"""
"""Imports the application once the file "open" is there."""


def write(server, name, text):
    """Replace a module atomically."""
    (server.folder / "new").write_text(text)
    (server.folder / "new").rename(server.folder / name)


def all_ready(count, generation=None):
    """A condition on the status: exactly `count` workers, all ready, and all of this generation if it is given."""
    return lambda status: (
        [each["state"] for each in status["workers"]] == ["ready"] * count
        and (generation is None or {each["generation"] for each in status["workers"]} == {generation})
    )
