"""``wsgi.file_wrapper``: the kernel sends a real file, from its position; everything else is read."""

import gzip
import io
import os

import pytest

from fdpass.serve.worker.wsgi.files import FileWrapper

CONTENT = bytes(range(256)) * 20_000  # 5 MB


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


class Sends:
    """An application that answers with a file.

    Attributes:
        parts: What the kernel was to send; None: the file was read.
        closed: Whether each file was closed in the end.
    """

    def __init__(self, opened, *headers, wrote=b""):
        self._open, self._headers, self._wrote = opened, headers, wrote
        self.files = []

    def __call__(self, environ, start_response):
        write = start_response("200 OK", [("Content-Type", "text/plain"), *self._headers])
        if self._wrote:
            write(self._wrote)
        self.files.append(self._open())
        return environ["wsgi.file_wrapper"](self.files[-1], 4096)


@pytest.fixture
def kernel_sent(serve, monkeypatch):
    """How many bytes the kernel was told to send."""
    from fdpass.serve.worker.transport.http import HttpTransport

    counts = []
    send_file = HttpTransport.send_file

    def counting(self, *arguments):
        counts.append(send_file(self, *arguments))
        return counts[-1]

    monkeypatch.setattr(HttpTransport, "send_file", counting)
    return lambda: sum(counts)


def opened_at(path, position, mode="rb", **options):
    def opened():
        file = open(path, mode, **options)
        file.seek(position)
        return file

    return opened


@pytest.mark.parametrize("options", [{}, {"buffering": 0}, {"mode": "r+b"}])
@pytest.mark.parametrize("position", [0, 1_000_003, len(CONTENT), len(CONTENT) + 5])
async def test_the_kernel_sends_a_file_from_its_position(serve, path, kernel_sent, position, options):
    app = Sends(opened_at(path, position, **options))
    client = await serve(app, validate=False)
    answer = await client.get()
    rest = CONTENT[position:]
    assert (answer.body, answer[b"content-length"]) == (rest, b"%d" % len(rest))
    assert kernel_sent() == len(rest)
    await serve.idle()
    assert app.files[0].closed
    assert (await client.get()).body == rest  # the connection goes on


async def test_a_file_ends_at_the_content_length(serve, path, kernel_sent):
    client = await serve(Sends(opened_at(path, 10), ("Content-Length", "1000")), validate=False)
    assert (await client.get()).body == CONTENT[10:1010]
    assert kernel_sent() == 1000


async def test_a_file_shorter_than_the_content_length_is_a_cut_response(serve, path):
    app = Sends(opened_at(path, 0), ("Content-Length", str(len(CONTENT) + 1)))
    client = await serve(app, validate=False)
    await client.request()
    assert await client.is_cut()
    await serve.idle()
    assert app.files[0].closed
    assert len(serve.errors) == 1


async def test_what_was_written_into_a_file_is_sent_with_it(serve, path, kernel_sent):
    def opened():
        file = open(path, "r+b")
        file.write(b"new")
        file.seek(0)
        return file

    client = await serve(Sends(opened), validate=False)
    assert (await client.get()).body == b"new" + CONTENT[3:]


async def test_the_response_to_head_sends_no_file(serve, path, kernel_sent):
    app = Sends(opened_at(path, 0), ("Content-Length", str(len(CONTENT))))
    client = await serve(app, validate=False)
    answer = await client.get(method=b"HEAD")
    assert answer[b"content-length"] == b"%d" % len(CONTENT)
    await serve.idle()
    assert app.files[0].closed
    assert kernel_sent() == 0


def gzipped(path):
    with gzip.open(f"{path}.gz", "wb") as file:
        file.write(CONTENT)
    return gzip.open(f"{path}.gz")


class OnlyRead:
    """What PEP 3333 demands of a file: no more than ``read``."""

    closed = True

    def __init__(self, path):
        self._parts = iter([CONTENT[:5000], CONTENT[5000:]])

    def read(self, size):
        return next(self._parts, b"")


@pytest.mark.parametrize(
    "opened",
    [lambda path: io.BytesIO(CONTENT), gzipped, OnlyRead, lambda path: io.BufferedReader(gzipped(path))],
    ids=["BytesIO", "gzip", "only read", "buffered gzip"],
)
async def test_what_is_no_real_file_is_read(serve, path, kernel_sent, opened):
    """The descriptor of a gzip file has other bytes than its ``read``."""
    app = Sends(lambda: opened(path))
    client = await serve(app, validate=False)
    assert (await client.get()).body == CONTENT
    await serve.idle()
    assert app.files[0].closed
    assert kernel_sent() == 0


async def test_a_file_without_a_size_is_read(serve, kernel_sent):
    client = await serve(Sends(lambda: open("/proc/self/stat", "rb")), validate=False)
    assert (await client.get()).body.startswith(b"%d (" % os.getpid())


async def test_a_pipe_is_read(serve, kernel_sent):
    def opened():
        reading, writing = os.pipe()
        os.write(writing, b"through a pipe")
        os.close(writing)
        return open(reading, "rb")

    client = await serve(Sends(opened), validate=False)
    assert (await client.get()).body == b"through a pipe"


async def test_a_file_behind_a_written_part_is_read(serve, path, kernel_sent):
    client = await serve(Sends(opened_at(path, 0), wrote=b"first "), validate=False)
    assert (await client.get()).body == b"first " + CONTENT


async def test_the_file_is_closed_when_the_client_leaves(serve, path):
    app = Sends(opened_at(path, 0))
    client = await serve(app, validate=False)
    await client.request()
    await client.until(b"\r\n\r\n")
    assert not app.files[0].closed
    client.reset()
    await serve.idle()
    assert app.files[0].closed


def flask(path):
    import flask

    app = flask.Flask("t_flask")
    app.add_url_rule("/", view_func=lambda: flask.send_file(path, conditional=True))
    return app


def django(path):
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import FileResponse
    from django.urls import path as route

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="only for a test", USE_TZ=True)
    view = route("", lambda request: FileResponse(open(path, "rb")))
    app = get_wsgi_application()

    def with_urls(environ, start_response):
        from django.urls import set_urlconf

        settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": [view]})
        set_urlconf(None)
        return app(environ, start_response)

    return with_urls


@pytest.mark.parametrize("framework", [flask, django])
async def test_the_kernel_sends_the_file_of_a_framework(serve, path, kernel_sent, framework):
    pytest.importorskip(framework.__name__)
    client = await serve(framework(path), validate=False)
    assert (await client.get()).body == CONTENT
    assert kernel_sent() == len(CONTENT)


async def test_a_range_of_a_file_is_sent_without_what_comes_before_it(serve, path, monkeypatch):
    pytest.importorskip("flask")
    monkeypatch.setattr(FileWrapper, "__next__", counting := Counting(FileWrapper.__next__))
    client = await serve(flask(path), validate=False)
    answer = await client.get(b"/", b"Range: bytes=4000000-4009999")
    assert (answer.status, answer.body) == (206, CONTENT[4_000_000:4_010_000])
    assert len(counting.calls) < 10


class Counting:
    def __init__(self, function):
        self._function = function
        self.calls = []

    def __get__(self, wrapper, owner):
        def count():
            self.calls.append(wrapper)
            return self._function(wrapper)

        return count


async def test_the_validator_is_content_with_it(serve, path):
    client = await serve(Sends(opened_at(path, 3)))
    assert (await client.get()).body == CONTENT[3:]
