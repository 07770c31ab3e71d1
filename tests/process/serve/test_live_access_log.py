"""The access log has one line for each WebSocket and event stream, at its end, however many workers it has had."""

import json
import time
from pathlib import Path

import pytest

from ._websockets import CLOSE, about
from .test_live_streams import APP as STREAMS_APP
from .test_live_streams import Stream

pytest.importorskip("websockets")


def lines(path):
    """The lines of an access log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("death", [True, False])
def test_a_websocket(live, open_websocket, tmp_path, tools, death):
    path = tmp_path / "access"
    server, _ = live("--workers", "2", "--log-json", "--access-log", str(path))
    began = time.monotonic()
    client = open_websocket(server)
    for count in range(1, 3):
        pid = about(client)["pid"]
        if death:
            server.kill_worker(pid)
        else:
            server.cli("reload")
        assert about(client)["resumed"] == count
    pid, seconds = about(client)["pid"], time.monotonic() - began
    assert path.read_text() == ""
    client.say((1000).to_bytes(2), CLOSE)
    assert client.hear() == 1000
    tools.wait_until(lambda: path.read_text().endswith("\n"), "the line is there: ", server.log)
    assert server.stop() == 0
    (line,) = lines(path)
    assert (line["path"], line["status"], line["pid"]) == ("/ws", 101, pid)
    assert line["ms"] > 1000 * seconds - 500


def test_an_event_stream(serve, client, tmp_path, tools):
    path = tmp_path / "access"
    flags = ("--resume", "/events", "--graceful-timeout", "1", "--workers", "1", "--log-json")
    server = serve("live:app", *flags, "--access-log", str(path), files={"live.py": STREAMS_APP})
    began = time.monotonic()
    stream = Stream(client(server), "/events/ends")
    pids = {*stream.events(3)}
    server.cli("reload")
    while len(pids) < 2:
        pids |= {*stream.events(1)}
    server.kill_worker(*stream.events(1))
    while len(pids) < 3:
        pids |= {*stream.events(1)}
    seconds = time.monotonic() - began
    assert path.read_text() == ""
    (Path(server.folder) / "end").touch()
    while stream.event() is not None:
        pass
    tools.wait_until(lambda: path.read_text().endswith("\n"), "the line is there: ", server.log)
    assert server.stop() == 0
    (line,) = lines(path)
    assert (line["path"], line["status"], line["pid"] in pids) == ("/events/ends", 200, True)
    assert line["ms"] > 1000 * seconds - 500
