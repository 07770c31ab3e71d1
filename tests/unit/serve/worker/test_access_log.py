"""The access log: a whole line per request, nothing in it that a client could forge, no harm if it cannot be."""

import asyncio
import errno
import fcntl
import json
import os
import re
import resource
import time
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdpass import Closed, Fd
from fdpass.serve.worker.access_log import AccessLog, wrap
from fdpass.testing import open_fds

COMMON = re.compile(
    r"(?P<client>\S+) - - \[(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000)\] "
    r'"(?P<method>\S*) (?P<target>\S*) HTTP/(?P<http>\S*)" (?P<status>\d+) (?P<bytes>\d+) pid=(?P<pid>\d+)\n'
)
KEYS = ["time", "pid", "client", "method", "path", "query", "http", "status", "bytes", "ms"]
START = {"type": "http.response.start", "status": 200, "headers": []}


def scope(**changes):
    base = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": "/caf\u00e9",
        "raw_path": b"/caf%C3%A9",
        "query_string": b"a=1&b",
        "client": ("192.0.2.1", 50000),
    }
    return {**base, **changes}


class Written:
    """A log to a memfd, and what is in it."""

    def __init__(self, *, json):
        self._fd = Fd(os.memfd_create("log"))
        self.log = AccessLog(self._fd.dup(), json=json)

    def text(self):
        return os.pread(self._fd.fileno(), 1_000_000, 0).decode("ascii")

    def close(self):
        self.log.close()
        self._fd.close()


@pytest.fixture
def common():
    with closing(Written(json=False)) as made:
        yield made


@pytest.fixture
def objects():
    with closing(Written(json=True)) as made:
        yield made


@pytest.fixture
def pipe():
    reader, writer = map(Fd, os.pipe())
    with reader, writer:
        yield reader, writer


def fill(writer):
    """Until there is no room for a line."""
    os.set_blocking(writer.fileno(), False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer.fileno(), bytes(4096))


# Lines


def test_a_common_line(common, monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 1_795_500_000_123_456_789)
    common.log.line(scope(), 200, 1234, 0.5)
    expected = (
        f'192.0.2.1 - - [24/Nov/2026:06:00:00 +0000] "GET /caf%C3%A9?a=1&b HTTP/1.1" 200 1234 pid={os.getpid()}\n'
    )
    assert common.text() == expected


def test_a_json_line(objects, monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 1_795_500_000_023_456_789)
    objects.log.line(scope(), 200, 1234, 0.0123456)
    record = json.loads(objects.text())
    assert list(record) == KEYS
    assert record == {
        "time": "2026-11-24T06:00:00.023Z",
        "pid": os.getpid(),
        "client": "192.0.2.1",
        "method": "GET",
        "path": "/caf%C3%A9",
        "query": "a=1&b",
        "http": "1.1",
        "status": 200,
        "bytes": 1234,
        "ms": 12.346,
    }


def test_the_time_goes_on(common, monkeypatch):
    """It is made once a second, not once for all."""
    for second in (1_795_500_059, 1_795_500_060, 1_795_500_060):
        monkeypatch.setattr(time, "time_ns", lambda second=second: second * 10**9)
        common.log.line(scope(), 200, 0, 0)
    assert [found["time"][12:20] for found in COMMON.finditer(common.text())] == [
        "06:00:59",
        "06:01:00",
        "06:01:00",
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"client": None}, "- - - ["),
        ({"client": ("", 0)}, "- - - ["),
        ({"client": ("2001:db8::1", 1)}, "2001:db8::1 - - ["),
        ({"client": ("/run/a b", 0)}, r"/run/a\x20b - - ["),
        ({"query_string": b""}, '"GET /caf%C3%A9 HTTP'),
        ({"raw_path": None}, r'"GET /caf\xC3\xA9?a=1&b HTTP'),
        ({"raw_path": b"", "path": "/"}, '"GET /?a=1&b HTTP'),
        ({"raw_path": b'/"\\\r\n\x00\x1b[0m\x7f\xff'}, r'"GET /\x22\x5C\x0D\x0A\x00\x1B[0m\x7F\xFF?a'),
        ({"method": 'G"T'}, r'"G\x22T /'),
        ({"http_version": "2"}, "HTTP/2"),
    ],
)
def test_how_facts_are_printed(common, changes, expected):
    common.log.line(scope(**changes), 200, 0, 0)
    assert expected in common.text()


def test_an_unknown_client_is_null_in_json(objects):
    objects.log.line(scope(client=None), 200, 0, 0)
    assert json.loads(objects.text())["client"] is None


times = st.sampled_from([1, 1, 500])
anything = st.builds(lambda part, count: part * count, st.binary(max_size=20), times)
words = st.builds(lambda part, count: part * count, st.text(st.characters(), max_size=10), times)


@given(path=anything | st.none(), plain=words, query=anything, method=words, host=words)
@settings(deadline=None)
def test_whatever_the_client_sends_is_one_line_of_its_own(path, plain, query, method, host):
    """Whole, printable, and short enough to be written in one piece to a pipe."""
    asked = scope(raw_path=path, path=plain, query_string=query, method=method, client=(host, 1))
    for as_json in (False, True):
        with closing(Written(json=as_json)) as written:
            written.log.line(asked, 200, 5, 0.25)
            text = written.text()
        assert len(text) <= 4096
        assert text[:-1].isprintable()
        assert text[-1] == "\n"
        found = json.loads(text) if as_json else COMMON.fullmatch(text).groupdict()
        assert (str(found["status"]), str(found["bytes"]), str(found["pid"])) == ("200", "5", str(os.getpid()))


def test_what_is_too_long_is_cut_and_the_rest_of_the_line_stands(common):
    common.log.line(scope(raw_path=b"/" + b"x" * 60_000), 404, 7, 0)
    found = COMMON.fullmatch(common.text())
    assert found["target"].startswith("/xxxx")
    assert len(common.text()) > 2000
    assert (found["status"], found["bytes"]) == ("404", "7")


# Writing


def test_each_line_is_one_write():
    """A pipe in packet mode keeps the writes apart."""
    reader, writer = os.pipe2(os.O_DIRECT)
    with Fd(reader), closing(AccessLog(Fd(writer), json=False)) as log:
        log.line(scope(), 200, 0, 0)
        log.line(scope(), 201, 0, 0)
        assert " 200 " in os.read(reader, 10_000).decode()
        assert " 201 " in os.read(reader, 10_000).decode()


def test_a_full_disk_is_told_once_and_what_is_lost_counted(caplog):
    with closing(AccessLog(Fd.open("/dev/full", "w"), json=False)) as log:
        log.line(scope(), 200, 0, 0)
        log.line(scope(), 200, 0, 0)
    assert log.dropped == 2
    assert [record.name for record in caplog.records] == ["fdpass.serve"]
    assert os.strerror(errno.ENOSPC) in caplog.text


def test_a_reader_that_went_away_is_no_error(pipe, caplog):
    reader, writer = pipe
    reader.close()
    with closing(AccessLog(writer.dup(), json=False)) as log:
        log.write(b"one\n")
    assert log.dropped == 1
    assert os.strerror(errno.EPIPE) in caplog.text


def test_a_full_pipe_drops_lines_until_there_is_room_and_is_told_each_time(pipe, caplog):
    reader, writer = pipe
    with closing(AccessLog(writer.dup(), json=False)) as log:
        for lost in (2, 4):
            fill(writer)
            log.write(b"lost\n")
            log.write(b"lost\n")
            assert log.dropped == lost
            os.read(reader.fileno(), 10_000_000)
            log.write(b"kept\n")
            assert os.read(reader.fileno(), 100) == b"kept\n"
    assert log.dropped == 4
    assert len(caplog.records) == 2


def test_a_line_that_the_disk_cut_does_not_spoil_the_next(common, caplog):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9, hard))
    try:
        common.log.write(b"first line\n")
        common.log.write(b"lost\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    common.log.write(b"second line\n")
    common.log.write(b"third line\n")
    assert common.text() == "first lin\nsecond line\nthird line\n"
    assert common.log.dropped == 2
    assert len(caplog.records) == 1


def test_after_close_lines_are_dropped(common):
    common.log.close()
    common.log.close()
    common.log.line(scope(), 200, 0, 0)
    assert common.log.dropped == 1


# Reopening


def test_reopen_goes_on_in_the_other_file_and_closes_the_first(common):
    before = open_fds()
    with closing(Written(json=False)) as other:
        fd = other._fd.dup()
        common.log.reopen(fd)
        common.log.write(b"one\n")
        assert other.text() == "one\n"
        assert common.text() == ""
        assert fd.closed
    common.log.close()
    assert len(open_fds()) == len(before) - 1


def test_reopen_keeps_the_descriptor_from_children(common, pipe):
    common.log.reopen(pipe[1].dup())
    assert fcntl.fcntl(common.log._fd.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_reopen_after_close_leaves_nothing_open(common, pipe):
    common.log.close()
    fd = pipe[1].dup()
    with pytest.raises(Closed):
        common.log.reopen(fd)
    assert fd.closed


def test_a_log_that_failed_writes_again_once_reopened(common):
    with closing(AccessLog(Fd.open("/dev/full", "w"), json=False)) as log:
        log.write(b"lost\n")
        log.reopen(common._fd.dup())
        log.write(b"kept\n")
        assert log.dropped == 1
    assert common.text() == "kept\n"


# Around an application


def serve(app, log, asked):
    """What the server is sent."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.disconnect"}

    asyncio.run(wrap(app, log)(asked, receive, send))
    return sent


def saying(*messages):
    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    return app


def failing(*messages):
    async def app(scope, receive, send):
        await saying(*messages)(scope, receive, send)
        raise RuntimeError("application")

    return app


def statuses(written):
    return [(int(found["status"]), int(found["bytes"])) for found in COMMON.finditer(written.text())]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([START, {"type": "http.response.body", "body": b"hello"}], (200, 5)),
        ([START, {"type": "http.response.body"}], (200, 0)),
        (
            [
                START,
                {"type": "http.response.body", "body": b"abc", "more_body": True},
                {"type": "http.response.body", "body": b"de", "more_body": True},
                {"type": "http.response.body"},
            ],
            (200, 5),
        ),
        ([{**START, "status": 404}, {"type": "http.response.zerocopysend", "file": 5}], (404, 0)),
        ([START, {"type": "http.response.pathsend", "path": "/x"}], (200, 0)),
        ([START, {"type": "http.response.body", "body": b"abc", "more_body": True}], (200, 3)),
        ([START], (200, 0)),
        ([], (500, 0)),
    ],
    ids=["whole", "empty", "parts", "zero copy", "path", "cut", "begun only", "none"],
)
def test_a_request_is_logged_with_what_was_sent(common, messages, expected):
    """And what was sent reaches the server as it is."""
    assert serve(saying(*messages), common.log, scope()) == messages
    assert statuses(common) == [expected]


def test_a_request_is_logged_when_its_response_is_complete(common):
    """Not only once the application has ended: it may go on with other work."""
    seen = []

    async def app(scope, receive, send):
        await saying(START, {"type": "http.response.body", "body": b"x"})(scope, receive, send)
        seen.append(statuses(common))

    serve(app, common.log, scope())
    assert seen == [[(200, 1)]] == [statuses(common)]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], (500, 0)),
        ([START, {"type": "http.response.body", "body": b"abc", "more_body": True}], (200, 3)),
        ([START, {"type": "http.response.body", "body": b"abc"}], (200, 3)),
    ],
    ids=["before the response", "within", "after"],
)
def test_an_application_that_fails_is_logged_once_and_its_error_passes(common, messages, expected):
    with pytest.raises(RuntimeError, match="application"):
        serve(failing(*messages), common.log, scope())
    assert statuses(common) == [expected]


def test_a_client_that_has_gone_is_logged_with_what_it_got(common):
    """A server may raise from send(); what it did not take is not counted."""

    async def gone(message):
        if message["type"] == "http.response.body":
            raise OSError("gone")

    app = wrap(saying(START, {"type": "http.response.body", "body": b"abc"}), common.log)
    with pytest.raises(OSError, match="gone"):
        asyncio.run(app(scope(), None, gone))
    assert statuses(common) == [(200, 0)]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (
            [{"type": "websocket.accept"}, {"type": "websocket.send", "text": "x"}, {"type": "websocket.close"}],
            101,
        ),
        ([{"type": "websocket.accept"}], 101),
        ([{"type": "websocket.close"}], 403),
        ([], 500),
        (
            [
                {"type": "websocket.http.response.start", "status": 401, "headers": []},
                {"type": "websocket.http.response.body", "body": b""},
            ],
            401,
        ),
    ],
    ids=["accepted", "closed by the client", "rejected", "no answer", "answered"],
)
def test_a_websocket_is_logged_with_how_it_began(common, messages, expected):
    asked = scope(type="websocket")
    del asked["method"]
    assert serve(saying(*messages), common.log, asked) == messages
    assert statuses(common) == [(expected, 0)]


def test_other_scopes_pass_untouched(common):
    async def receive():
        raise AssertionError

    async def send(message):
        raise AssertionError

    seen = []

    async def app(*arguments):
        seen.append(arguments)

    asked = {"type": "lifespan"}
    asyncio.run(wrap(app, common.log)(asked, receive, send))
    assert seen == [(asked, receive, send)]
    assert common.text() == ""


def test_the_time_taken_is_that_of_the_response(objects, monkeypatch):
    ticks = iter([10.0, 10.25])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    log, sent = objects.log, []

    async def send(message):
        sent.append(message)

    # Driven by hand: an event loop reads the clock as well.
    running = wrap(saying(START, {"type": "http.response.body"}), log)(scope(), None, send)
    with pytest.raises(StopIteration):
        running.send(None)
    assert json.loads(objects.text())["ms"] == 250
