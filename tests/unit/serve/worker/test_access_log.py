"""The access log: a whole line per request, which no client can forge; a log that fails hinders no request."""

import asyncio
import errno
import fcntl
import json
import os
import re
import resource
import time
from contextlib import closing, contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdpass import Fd
from fdpass.serve.shared.access_log import AccessLog
from fdpass.serve.worker.access_log import wrap
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


class LogInMemory:
    """An access log that writes to a memfd, and the text in it."""

    def __init__(self, *, json, form=""):
        self.file = Fd(os.memfd_create("log"))
        self._given = self.file.dup()
        self.log = AccessLog(self._given, json=json, form=form)

    def text(self):
        return os.pread(self.file.fileno(), 1_000_000, 0).decode("ascii")

    def close(self):
        self._given.close()
        self.file.close()


@contextmanager
def log_to(fd):
    """An access log whose descriptor is closed at the end."""
    with fd:
        yield AccessLog(fd, json=False)


def write(log, path):
    log.line(scope(raw_path=path, query_string=b""), 200, 0, 0)


def paths(text):
    return [found["target"] for found in COMMON.finditer(text)]


@pytest.fixture
def common():
    with closing(LogInMemory(json=False)) as log:
        yield log


@pytest.fixture
def objects():
    with closing(LogInMemory(json=True)) as log:
        yield log


@pytest.fixture
def pipe():
    reader, writer = map(Fd, os.pipe())
    with reader, writer:
        yield reader, writer


def fill(writer):
    """Fill a pipe until it has no room for a line."""
    os.set_blocking(writer.fileno(), False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer.fileno(), bytes(4096))


# Lines


def test_a_line_in_the_common_log_format(common, monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 1_795_500_000_123_456_789)
    common.log.line(scope(), 200, 1234, 0.5)
    expected = (
        f'192.0.2.1 - - [24/Nov/2026:06:00:00 +0000] "GET /caf%C3%A9?a=1&b HTTP/1.1" 200 1234 pid={os.getpid()}\n'
    )
    assert common.text() == expected


def test_a_line_as_json(objects, monkeypatch):
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


def test_each_line_has_the_time_of_its_own_second(common, monkeypatch):
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
def test_how_facts_about_a_request_are_printed(common, changes, expected):
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
def test_whatever_the_client_sends_a_request_makes_one_printable_line(path, plain, query, method, host):
    """Short enough for a pipe to take it in one piece."""
    asked = scope(raw_path=path, path=plain, query_string=query, method=method, client=(host, 1))
    for as_json in (False, True):
        with closing(LogInMemory(json=as_json)) as written:
            written.log.line(asked, 200, 5, 0.25)
            text = written.text()
        assert len(text) <= 4096
        assert text[:-1].isprintable()
        assert text[-1] == "\n"
        found = json.loads(text) if as_json else COMMON.fullmatch(text).groupdict()
        assert (str(found["status"]), str(found["bytes"]), str(found["pid"])) == ("200", "5", str(os.getpid()))


def test_a_path_that_is_too_long_is_cut_and_the_line_goes_on_behind_it(common):
    common.log.line(scope(raw_path=b"/" + b"x" * 60_000), 404, 7, 0)
    found = COMMON.fullmatch(common.text())
    assert found["target"].startswith("/xxxx")
    assert len(common.text()) > 2000
    assert (found["status"], found["bytes"]) == ("404", "7")


# Writing


def test_each_line_is_one_write():
    """A pipe in packet mode keeps the writes apart."""
    reader, writer = os.pipe2(os.O_DIRECT)
    with Fd(reader), log_to(Fd(writer)) as log:
        log.line(scope(), 200, 0, 0)
        log.line(scope(), 201, 0, 0)
        assert " 200 " in os.read(reader, 10_000).decode()
        assert " 201 " in os.read(reader, 10_000).decode()


def test_a_full_disk_is_warned_of_once(caplog):
    with log_to(Fd.open("/dev/full", "w")) as log:
        write(log, b"/lost")
        write(log, b"/lost")
    assert [record.name for record in caplog.records] == ["fdpass.serve"]
    assert os.strerror(errno.ENOSPC) in caplog.text


def test_a_pipe_whose_reader_went_away_is_warned_of(pipe, caplog):
    reader, writer = pipe
    reader.close()
    with log_to(writer.dup()) as log:
        write(log, b"/lost")
    assert os.strerror(errno.EPIPE) in caplog.text


def test_a_full_pipe_drops_lines_until_it_has_room_and_is_warned_of_each_time(pipe, caplog):
    reader, writer = pipe
    with log_to(writer.dup()) as log:
        for warnings in (1, 2):
            fill(writer)
            write(log, b"/lost")
            write(log, b"/lost")
            assert len(caplog.records) == warnings
            os.read(reader.fileno(), 10_000_000)
            write(log, b"/kept")
            assert paths(os.read(reader.fileno(), 1000).decode()) == ["/kept"]


def test_a_line_that_the_disk_cut_does_not_spoil_the_next(common, caplog):
    client = len(scope()["client"][0])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (client, hard))
    try:
        write(common.log, b"/cut")
        write(common.log, b"/lost")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    write(common.log, b"/second")
    write(common.log, b"/third")
    cut, second, third = common.text().splitlines(keepends=True)
    assert cut == "192.0.2.1\n"
    assert paths(second) == ["/second"]
    assert paths(third) == ["/third"]
    assert len(caplog.records) == 1


# Reopening


def test_reopen_goes_on_in_the_other_file_and_closes_the_first(common):
    with closing(LogInMemory(json=False)) as other:
        before = open_fds()
        fd = other.file.dup()
        common.log.reopen(fd)
        write(common.log, b"/")
        assert paths(other.text()) == ["/"]
        assert common.text() == ""
        assert fd.closed
        assert len(open_fds()) == len(before)


def test_reopen_keeps_the_descriptor_from_children(common, pipe):
    common.log.reopen(pipe[1].dup())
    assert fcntl.fcntl(common.log._fd.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_a_log_that_failed_writes_again_once_reopened(common):
    with log_to(Fd.open("/dev/full", "w")) as log:
        write(log, b"/lost")
        log.reopen(common.file.dup())
        write(log, b"/kept")
    assert paths(common.text()) == ["/kept"]


# Around an application


def serve(app, log, asked):
    """Serve a request, and return the messages that the server gets."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.disconnect"}

    asyncio.run(wrap(app, log)(asked, receive, send))
    return sent


def sending(*messages):
    """An application that sends these messages."""

    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    return app


def failing_after(*messages):
    """An application that sends these messages and raises."""

    async def app(scope, receive, send):
        await sending(*messages)(scope, receive, send)
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
def test_a_request_is_logged_with_the_status_and_size_of_its_response(common, messages, expected):
    """And the response reaches the server as it is."""
    assert serve(sending(*messages), common.log, scope()) == messages
    assert statuses(common) == [expected]


def test_a_request_is_logged_when_its_response_is_complete(common):
    """Not only when the application returns: it may go on with other work."""
    seen = []

    async def app(scope, receive, send):
        await sending(START, {"type": "http.response.body", "body": b"x"})(scope, receive, send)
        seen.append(statuses(common))

    serve(app, common.log, scope())
    assert seen == [[(200, 1)]] == [statuses(common)]


def test_the_bytes_of_a_file_that_is_sent_by_its_path_are_counted(common, tmp_path):
    (tmp_path / "file").write_bytes(bytes(1234))
    path = {"type": "http.response.pathsend", "path": str(tmp_path / "file")}
    serve(sending(START, path), common.log, scope())
    assert statuses(common) == [(200, 1234)]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], (500, 0)),
        ([START, {"type": "http.response.body", "body": b"abc", "more_body": True}], (200, 3)),
        ([START, {"type": "http.response.body", "body": b"abc"}], (200, 3)),
    ],
    ids=["before the response", "within", "after"],
)
def test_a_request_whose_application_fails_is_logged_once_and_the_error_passes_through(common, messages, expected):
    with pytest.raises(RuntimeError, match="application"):
        serve(failing_after(*messages), common.log, scope())
    assert statuses(common) == [expected]


def test_bytes_that_the_server_refused_because_the_client_has_gone_are_not_counted(common):
    """A server may raise from send()."""

    async def gone(message):
        if message["type"] == "http.response.body":
            raise OSError("gone")

    app = wrap(sending(START, {"type": "http.response.body", "body": b"abc"}), common.log)
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
def test_a_websocket_is_logged_with_the_status_of_its_handshake(common, messages, expected):
    asked = scope(type="websocket")
    del asked["method"]
    assert serve(sending(*messages), common.log, asked) == messages
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


def test_the_duration_ends_with_the_response(objects, monkeypatch):
    ticks = iter([10.0, 10.25])
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    log, sent = objects.log, []

    async def send(message):
        sent.append(message)

    # Driven by hand: an event loop reads the clock as well.
    running = wrap(sending(START, {"type": "http.response.body"}), log)(scope(), None, send)
    with pytest.raises(StopIteration):
        running.send(None)
    assert json.loads(objects.text())["ms"] == 250


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_what_goes_on_in_another_worker_is_logged_there_with_the_whole_duration(objects, kind):
    async def send(message):
        pass

    async def leaves(scope, receive, send):
        await send(START if kind == "http" else {"type": "websocket.accept"})
        scope["extensions"]["fdpass"]["moved"] = True

    asked = scope(type=kind, extensions={"fdpass": {"age": 0.0, "moved": False}})
    asyncio.run(wrap(leaves, objects.log)(asked, None, send))
    assert objects.text() == ""
    asked["extensions"]["fdpass"] = {"age": 3600.0, "moved": False}
    asyncio.run(wrap(sending(START), objects.log)(asked, None, send))
    assert 3_600_000 <= json.loads(objects.text())["ms"] < 3_700_000


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("once", [iter, lambda pairs: (pair for pair in pairs), lambda pairs: map(tuple, pairs)])
def test_headers_that_can_be_read_only_once_reach_the_server_and_the_log(kind, once):
    pairs = [(b"set-cookie", b"a=b"), (b"x-a", b"1")]
    prefix = "websocket." if kind == "websocket" else ""
    start = {"type": f"{prefix}http.response.start", "status": 200, "headers": once(pairs)}
    body = {"type": f"{prefix}http.response.body", "body": b"ok"}
    with closing(LogInMemory(json=False, form="%(s)s %({x-a}o)s")) as written:
        sent = serve(sending(start, body), written.log, scope(type=kind))
        assert [list(message.get("headers", ())) for message in sent] == [pairs, []]
        assert written.text() == "200 1\n"


@pytest.mark.parametrize("headers", [[("x-a", "1")], [(b"x-a",)], [(b"x-a", b"1")]])
def test_a_start_that_the_server_refuses_is_logged_as_500_and_raises_the_error_of_the_server(headers):
    async def send(message):
        raise TypeError("refused")

    app = sending({**START, "headers": headers})
    with closing(LogInMemory(json=False, form="%(s)s %({x-a}o)s")) as written:
        with pytest.raises(TypeError, match="refused"):
            asyncio.run(wrap(app, written.log)(scope(), None, send))
        assert written.text() == "500 -\n"
