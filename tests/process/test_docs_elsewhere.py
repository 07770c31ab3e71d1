"""The WebSocket applications of docs/live.md run on another server, too, which has no extension ``fdpass``."""

import subprocess
import sys

import pytest

from .test_docs import ROOT, blocks

connect = pytest.importorskip("websockets.sync.client").unix_connect
NEEDS = {"adding": "starlette", "naming": "fastapi", "rooms": "channels", "held": "quart"}
ANSWERS = {"adding": "10, by", "naming": "hello 10", "rooms": "10 (message 1)", "held": "10, by"}
LIMIT = 60


def files():
    """The files of the document."""
    *_, last = blocks(ROOT / "docs" / "live.md")
    return last.files


@pytest.mark.parametrize("name", NEEDS)
def test_an_example_with_resume_runs_on_uvicorn(tmp_path, name):
    pytest.importorskip(NEEDS[name])
    (tmp_path / f"{name}.py").write_text(files()[f"{name}.py"], encoding="utf-8")
    command = [sys.executable, "-m", "uvicorn", "--uds", "socket", "--lifespan", "off", f"{name}:app"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        try:
            for line in server.stderr:
                if "Uvicorn running" in line:
                    break
            with connect(str(tmp_path / "socket"), "ws://localhost/ws") as websocket:
                websocket.send("10")
                assert websocket.recv(timeout=LIMIT).startswith(ANSWERS[name])
        finally:
            server.terminate()
            server.communicate(timeout=LIMIT)


def test_each_example_that_asks_for_resume_is_tried():
    assert {name.removesuffix(".py") for name, text in files().items() if "resume" in text} == {*NEEDS}
