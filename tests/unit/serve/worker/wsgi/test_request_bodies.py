"""``wsgi.input``: a whole file, whatever the framing of the request, and however its bytes come."""

import asyncio
import itertools

import pytest

BIG = bytes(range(256)) * 12_000  # 3 MB
LINES = b"one\ntwo\n\nfour is longer\nfive"


def chunked(body, size):
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
FRAMINGS = {
    "length": lambda body: HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body,
    "chunked": lambda body: HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, 1000),
}
READERS = {
    "read()": lambda file: [file.read()],
    "read(-1)": lambda file: [file.read(-1)],
    "read(n)": lambda file: iter(lambda: file.read(1000), b""),
    "readline()": lambda file: iter(file.readline, b""),
    "readline(n)": lambda file: iter(lambda: file.readline(100), b""),
    "readlines()": lambda file: file.readlines(),
    "readlines(hint)": lambda file: itertools.chain(file.readlines(50), file.readlines()),
    "iteration": lambda file: file,
    "line, rest": lambda file: [file.readline(), file.read()],
}


def reads(reader):
    """An application that reads its request so, and answers with what it has read."""

    def app(environ, start_response):
        assert environ["wsgi.input_terminated"]
        file = environ["wsgi.input"]
        body = b"".join(reader(file))
        assert file.read() == b""  # again: the end stays the end
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app


@pytest.mark.parametrize("body", [b"", LINES, BIG], ids=["empty", "lines", "3 MB"])
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("reader", READERS)
async def test_every_reader_gets_the_whole_body(serve, reader, framing, body):
    client = await serve(reads(READERS[reader]), validate=False)  # its file demands an argument of read
    sending = asyncio.create_task(client.send(FRAMINGS[framing](body)))
    assert (await client.answer()).body == body
    await sending
    await client.send(FRAMINGS[framing](b"next"))
    assert (await client.answer()).body == b"next"


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_body_that_comes_byte_by_byte(serve, framing):
    client = await serve(reads(READERS["readline(n)"]), validate=False)
    for byte in FRAMINGS[framing](LINES):
        await client.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await client.answer()).body == LINES


async def test_the_validator_is_content_with_the_file(serve):
    def app(environ, start_response):
        file = environ["wsgi.input"]
        found = [file.readline(), *file.readlines(3), file.read(2), *file]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"".join(found)]

    client = await serve(app)
    await client.send(FRAMINGS["chunked"](LINES))
    assert (await client.answer()).body == LINES


async def test_a_line_is_there_before_the_rest_of_the_body(serve):
    """A client and an application can take turns."""

    def app(environ, start_response):
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        for line in environ["wsgi.input"]:
            write(line.upper())
        return []

    client = await serve(app)
    await client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for word in (b"one", b"two", b"three"):
        await client.send(chunked(word + b"\n", 100).removesuffix(b"0\r\n\r\n"))
        await client.until(word.upper() + b"\n")
    await client.send(b"0\r\n\r\n")
    await client.until(b"0\r\n\r\n")


async def test_no_more_is_read_than_the_application_wants(serve):
    """The window is bounded: the rest of a body waits in the kernel."""
    import threading

    go = threading.Event()

    def app(environ, start_response):
        environ["wsgi.input"].read(1)
        go.wait()
        count = 1 + len(environ["wsgi.input"].read(10**9))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"%d" % count]

    size = 64 << 20
    client = await serve(app)
    await client.send(HEAD + b"Content-Length: %d\r\n\r\n" % size)
    sent = await client.fill(size)
    assert sent < size / 2
    go.set()
    while sent < size:
        count = min(size - sent, 1 << 20)
        await client.send(bytes(count))
        sent += count
    assert (await client.answer()).body == b"%d" % size


async def test_100_continue_is_sent_when_the_application_reads(serve):
    def app(environ, start_response):
        found = environ["wsgi.input"].read(10) if environ["PATH_INFO"] == "/read" else b"unread"
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [found]

    client = await serve(app)
    await client.request(b"/read", b"Expect: 100-continue", b"Content-Length: 4", method=b"POST")
    assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue"
    await client.send(b"body")
    assert (await client.answer()).body == b"body"
    await client.request(b"/", b"Expect: 100-continue", b"Content-Length: 4", method=b"POST")
    assert (await client.answer()).body == b"unread"


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_body_whose_end_never_comes_is_an_error_and_not_the_end(serve, framing):
    """A body that was cut must not pass for a whole one."""
    begun, raised = [], []

    def app(environ, start_response):
        for _ in range(2):
            try:
                while environ["wsgi.input"].read(1000):
                    begun.append(True)
            except OSError as error:
                raised.append(error)
        start_response("400 Bad Request", [("Content-Type", "text/plain")])
        return [b"cut"]

    client = await serve(app)
    await client.send(FRAMINGS[framing](bytes(100_000))[:60_000])
    await serve.until(lambda: begun)
    client.close()
    await serve.server.settled.wait()
    await serve.idle()
    assert [type(error).__mro__[1] for error in raised] == [ConnectionResetError] * 2
    assert serve.lines == []


async def test_a_body_behind_the_response_is_an_error_when_it_is_read(serve):
    """Nobody keeps it: the application must not take it for an empty one."""
    raised = []

    def app(environ, start_response):
        write = start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        write(b"ok")
        try:
            environ["wsgi.input"].read(1)
        except OSError as error:
            raised.append(error)
        return []

    client = await serve(app)
    await client.request(b"/", b"Content-Length: 4", method=b"POST")
    assert (await client.answer()).body == b"ok"
    await client.send(b"body")
    await serve.idle()
    assert len(raised) == 1
