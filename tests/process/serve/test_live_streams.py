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
        event = b":"
        while event.startswith(b":"):
            while b"\n\n" not in self.data:
                data = self.part()
                if not data:
                    assert not self.data
                    return None
                self.data += data.replace(b"\r\n", b"\n")
            event, self.data = self.data.split(b"\n\n", 1)
        fields = dict(line.split(": ", 1) for line in event.decode().splitlines())  # the last comment is under ""
        return int(fields.get("id", 0)), int(fields["data"])

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


def test_a_stream_outlives_killed_workers_without_a_gap(live, client):
    server = live("--loop", "uvloop")
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
    server.wait_connections(accepted=1, live=1, lost=0, resumed=3, moved=0, cut=0)


REFUSED = {  # how the application answers when the stream is continued: the status in the log
    "/events/401": 401,
    "/events/204": 204,
    "/events/type": 200,
    "/events/length": 200,
    "/events/raises": 500,
    "/events/nothing": 500,
}


def test_a_stream_that_another_worker_cannot_continue_is_reset(live, client):
    """A client sees an error, connects again, and gets the application's own answer."""
    server = live("--workers", "1")
    refused = [Stream(client(server), path) for path in REFUSED]
    cut = [Stream(client(server), path) for path in ("/events/half", "/events/unnamed", "/else")]
    for stream in refused:
        stream.events(3)
    cut[0].events(3)
    while not cut[0].part().startswith(b"id: 4\nda"):
        pass
    cut[1].event()
    cut[2].event()
    server.kill_worker(server.workers()[0])
    for stream in cut + refused:
        assert stream.client.cut()[1], stream.client.sock
    log = server.log()
    assert log.count("cut: its worker died in the middle of an event, or the events have no ids: GET /events") == 2
    assert log.count("cut: its worker died in the middle of a response") == 1
    for path, status in REFUSED.items():
        server.wait_log(f"does not continue its event stream, but answers {status}: GET {path}")
    server.wait_connections(accepted=9, live=0)


def test_pings_and_the_id_of_the_client(live, client):
    """Comments between events do no harm. Until an event has gone out, the client's own id counts."""
    server = live("--workers", "1")
    pings, late = (
        Stream(client(server), "/events/pings"),
        Stream(client(server), "/events/late", last_event_id="7"),
    )
    pings.events(3)
    assert late.part() == b": ping\n\n"
    server.kill_worker(server.workers()[0])
    pings.events(3)
    late.number = 7
    late.events(3)
    assert ("/events/late", "7", "1", "0") in calls(server)
    server.wait_connections(accepted=2, live=2, resumed=2, lost=0)


def test_a_stream_that_kills_its_workers_is_reset_after_four_deaths(live, client):
    server = live("--workers", "1")
    stream = Stream(client(server), "/events/dies")
    stream.event()
    server.kill_worker(server.workers()[0])
    assert stream.client.cut()[1]
    assert calls(server) == [("/events/dies", "-" if not n else "1", str(n), str(max(0, n - 1))) for n in range(4)]
    server.wait_connections(accepted=1, live=0, lost=1)


def until_moved(stream, old):
    """Read events until another worker sends them; returns its pid."""
    while (pid := stream.events(1)[0]) in old:
        pass
    return pid


def test_a_reload_moves_streams_without_a_gap_when_their_time_is_over(live, client):
    """Until then a stream may end by itself; its connection then moves as any idle one."""
    server = live("--loop", "asyncio", "--graceful-timeout", "1")
    streams = [Stream(client(server)) for _ in range(4)]
    ends, unnamed = Stream(client(server), "/events/ends"), Stream(client(server), "/events/unnamed")
    old = {pid for stream in streams for pid in stream.events(3)}
    ends.event()
    unnamed.event()
    server.cli("reload")
    (server.folder / "end").touch()
    while (event := ends.event()) is not None:
        last = event
    assert last[1] == 0
    for stream in streams:
        assert until_moved(stream, old) in server.workers()
        stream.events(3)
    assert unnamed.client.cut() != (b"", True)
    assert int(ends.client.send("/plain").answer()[1]) not in old
    server.wait_status(all_ready(2, 2))
    assert sorted(call[1:3] for call in calls(server) if call[0] == "/events")[:4] == [("-", "0")] * 4
    assert [call[2] for call in calls(server) if call[0] == "/events" and call[1] != "-"] == ["1"] * 4
    log = server.log()
    assert log.count("ending 1 event stream one by one within 1 s (--graceful-timeout)") == 1
    assert "cut after" not in log
    ended = (server.folder / "ended").read_text().splitlines()
    assert sorted(line.split()[0] for line in ended) == ["/events"] * 4 + ["/events/unnamed"]
    server.wait_connections(accepted=6, live=5, lost=0, resumed=4, moved=1)
    assert streams[0].headers["content-type"] == "text/event-stream; charset=utf-8"


def test_a_stop_ends_streams_at_once(live, client):
    server = live("--graceful-timeout", "1")
    stream = Stream(client(server))
    stream.events(1)
    assert server.stop() == 0
    data, _ = stream.client.cut()
    assert not data.endswith(b"0\r\n\r\n")
    assert len(calls(server)) == 1


def test_streams_of_unix_sockets(live, client, tools, tmp_path):
    """The worker is killed while it waits: whether it was sending would be known to nobody but itself."""
    path = tmp_path / "socket"
    server = live("--graceful-timeout", "1", bind=(f"unix:{path}",))
    stream = Stream(client(server, address=str(path)), "/events/waits")
    (killed,) = {*stream.events(3)}
    tools.wait_until(lambda: tools.state_of(killed) == "S", "it waits: ", lambda: tools.state_of(killed))
    server.kill_worker(killed)
    (retired,) = stream.events(1)
    server.cli("reload")
    (last,) = stream.events(1)
    assert len({killed, retired, last}) == 3
    assert [call[1:3] for call in calls(server)] == [("-", "0"), ("3", "1"), ("4", "2")]


def test_a_stream_of_a_slow_client_goes_on_if_its_backlog_fits_into_its_page(live, client, tools):
    """The client reads when its worker has been killed; an event of 40 MB fits nowhere."""
    server = live("--workers", "1")
    one, many = client(server).send("/events/large"), Stream(client(server), "/events/many")
    assert one.head()[0] == 200
    many.events(1)
    (pid,) = server.workers()
    stalled = server.folder / "stalled"
    tools.wait_until(
        lambda: stalled.exists() and len({*stalled.read_text().split()}) == 2, "stalled: ", server.log
    )
    server.kill_worker(pid)
    data, reset = one.cut()
    assert reset
    assert 0 < len(data) < 40_000_000
    while many.events(1) == [pid]:
        pass
    many.events(10)
    server.wait_connections(accepted=2, live=1, resumed=1, cut=1)


SSE_STARLETTE = """
import asyncio, itertools, os
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.routing import Route

async def events(request):
    async def numbers():
        for number in itertools.count(int(request.headers.get("last-event-id", 0)) + 1):
            yield {"id": str(number), "data": str(os.getpid())}
            await asyncio.sleep(0.02)

    return EventSourceResponse(numbers(), ping=0.1)

app = Starlette(routes=[Route("/events", events), Route("/else", events)])
"""


def test_sse_starlette(serve, client):
    """Its streams end when they learn of the server's end: so they learn it when they have moved."""
    pytest.importorskip("sse_starlette")
    files = {"sse.py": SSE_STARLETTE}
    server = serve("sse:app", "--resume", "/events", "--graceful-timeout", "1", files=files)
    streams = [Stream(client(server)) for _ in range(4)]
    other = Stream(client(server), "/else")
    other.event()
    old = {pid for stream in streams for pid in stream.events(3)}
    server.cli("reload")
    old |= {until_moved(stream, old) for stream in streams}
    assert not other.client.cut()[0].endswith(b"0\r\n\r\n")
    server.wait_status(all_ready(2, 2))
    for pid in server.workers():
        server.kill_worker(pid)
    for stream in streams:
        until_moved(stream, old)
        stream.events(3)
    assert "cut" not in server.log()
    assert "Traceback" not in server.log()
    server.wait_connections(accepted=5, live=4, lost=0)
    assert server.stop() == 0
