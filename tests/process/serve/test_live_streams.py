"""Event streams on resumable paths: what a client sees when their worker is killed, replaced or stopped."""

from pathlib import Path

import pytest

from ._reload_helpers import all_ready

APP = Path(__file__).with_name("live_streams_app.py").read_text()


class Stream:
    """A client's end of an event stream."""

    def __init__(self, one, path="/events", **headers):
        self.client = one.send(path, **headers)
        self.status, self.headers = self.client.head()
        self.data = b""

    def part(self):
        """Read one chunk; b"" at the end of the response."""
        file = self.client._file
        size = int(file.readline(), 16)
        data, end = file.read(size), file.read(2)
        assert end == b"\r\n"
        return data

    def event(self):
        """Read one event: the id and the pid; None at the end of the response."""
        while b"\n\n" not in self.data:
            data = self.part()
            if not data:
                assert not self.data
                return None
            self.data += data
        event, self.data = self.data.split(b"\n\n", 1)
        fields = dict(line.split(": ", 1) for line in event.decode().splitlines())
        return int(fields.get("id", 0)), int(fields["data"]) if "data" in fields else None

    def events(self, count):
        """Read so many events; returns their pids. The ids must follow on each other."""
        pids = []
        for _ in range(count):
            number, pid = self.event()
            self.number += 1
            assert number == self.number
            pids.append(pid)
        return pids

    number = 0


@pytest.fixture
def live(serve):
    """``live(*flags)``: a server with ``live_streams_app.py``, whose streams below /events can be continued."""

    def start(*flags, **options):
        files = {"live.py": APP}
        return serve("live:app", "--resume", "/events", "--keep-alive", "60", *flags, files=files, **options)

    return start


def calls(server):
    """Path, last id, how often it was continued and attempt of each call, in order."""
    return [tuple(line.split()[:4]) for line in (server.folder / "calls").read_text().splitlines()]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_stream_outlives_killed_workers_without_a_gap(live, client, loop):
    server = live("--loop", loop)
    stream = Stream(client(server))
    pids = []
    for _ in range(3):
        pids += {*stream.events(5)}
        server.kill_worker(pids[-1])
    stream.events(5)
    assert len({*pids}) == len(pids) == 3
    (first, *others) = calls(server)
    assert first == ("/events", "-", "0", "0")
    assert [int(resumed) for _, _, resumed, _ in others] == [1, 2, 3]
    server.wait_connections(accepted=1, live=1, lost=0, moved=3, cut=0)
