"""The response: ``start_response``, ``write``, the body, ``close``, and what an application does wrong."""

import re
import sys
import threading

import pytest

TEXT = ("Content-Type", "text/plain")


class Body:
    """A body that counts the calls of ``close``."""

    closed = 0

    def __init__(self, *parts):
        self._parts = iter(parts)

    def __iter__(self):
        return self

    def __next__(self):
        part = next(self._parts)
        if isinstance(part, Exception):
            raise part
        return part

    def close(self):
        self.closed += 1


def answers(result, *headers, status="200 OK"):
    def app(environ, start_response):
        start_response(status, [TEXT, *headers])
        return result() if callable(result) else result

    return app


@pytest.mark.parametrize("body", [[b"one"], (b"one",), [b"", b"o", b"ne"]])
async def test_a_list_goes_out_whole_with_its_length(serve, body):
    client = await serve(answers(body), validate=False)  # the validator returns an iterator
    answer = await client.get()
    assert (answer[b"content-length"], answer.body) == (b"3", b"one")


async def test_a_large_list_goes_out_whole(serve):
    parts = [bytes([number]) * 50_000 for number in range(100)]
    client = await serve(answers(parts))
    assert (await client.get()).body == b"".join(parts)


async def test_parts_go_out_as_they_come(serve):
    go = [threading.Event() for _ in range(3)]

    def parts():
        for number, event in enumerate(go):
            event.wait()
            yield b"%d" % number

    client = await serve(answers(parts))
    await client.request()
    for number, event in enumerate(go):
        event.set()
        await client.until(b"%d\r\n" % number)
    await client.until(b"0\r\n\r\n")


async def test_an_application_waits_for_a_slow_client(serve):
    """The queue is bounded: 64 KiB, and what the transport and the kernel hold."""
    given = []

    def parts():
        for _ in range(1000):
            given.append(True)
            yield bytes(100_000)

    client = await serve(answers(parts))
    await client.request()
    await serve.until(lambda: len(given) > 10)
    assert await client.until(b"\r\n\r\n")
    assert len(given) < 500
    assert sum([len(part) for part in await chunks(client)]) == 100_000_000


async def chunks(client):
    found = []
    while size := int(await client.until(b"\r\n"), 16):
        found.append(await client.exactly(size))
        assert await client.exactly(2) == b"\r\n"
    return found


async def test_the_head_waits_for_the_first_part_that_is_not_empty(serve):
    """Until then another head can replace it (PEP 3333)."""

    def app(environ, start_response):
        start_response("200 OK", [TEXT, ("X-First", "1"), ("Content-Length", "1000")])
        yield b""
        try:
            raise LookupError("no page")
        except LookupError:
            start_response("404 Not Found", [TEXT, ("X-Second", "2")], sys.exc_info())
        yield b"missing"

    client = await serve(app)
    answer = await client.get()
    assert (answer.status, answer.body, answer[b"x-first"]) == (404, b"missing", None)
    assert answer[b"x-second"] == b"2"
    assert answer[b"content-length"] in {None, b"7"}


async def test_behind_the_first_part_the_error_is_raised_again(serve):
    def app(environ, start_response):
        start_response("200 OK", [TEXT])
        yield b"part"
        try:
            raise LookupError("in the middle")
        except LookupError:
            start_response("500 Error", [TEXT], sys.exc_info())
        yield b"never"

    client = await serve(app)
    await client.request()
    assert await client.is_cut()
    await serve.idle()
    assert serve.errors == ["LookupError('in the middle')"]


async def test_a_second_start_response_without_an_error_is_one(serve):
    def app(environ, start_response):
        start_response("200 OK", [TEXT])
        start_response("201 Created", [TEXT])
        return [b""]

    client = await serve(app, validate=False)
    assert (await client.get()).status == 500
    assert "second time" in serve.errors[0]


async def test_write_sends_in_order_with_the_body(serve):
    def app(environ, start_response):
        write = start_response("200 OK", [TEXT])
        write(b"one ")
        write(b"")
        write(b"two ")
        return [b"three"]

    client = await serve(app)
    assert (await client.get()).body == b"one two three"


async def test_start_response_may_come_with_the_first_part(serve):
    def app(environ, start_response):
        start_response("200 OK", [TEXT])
        yield b"late"

    client = await serve(app, validate=False)
    assert (await client.get()).body == b"late"


# Content-Length


@pytest.mark.parametrize("parts", [(b"12345678",), (b"123", b"45", b"678"), (b"12345", b"678")])
async def test_a_body_longer_than_its_length_is_cut_there_and_logged(serve, parts):
    body = Body(*parts, *[b"more"] * 5)
    client = await serve(answers(body, ("Content-Length", "5")))
    assert (await client.get()).body == b"12345"
    await serve.idle()
    assert body.closed == 1
    assert serve.lines == ["the response is longer than its Content-Length, and was cut there: GET /"]
    assert (await client.get(method=b"HEAD")).status == 200  # the connection goes on


async def test_a_body_without_end_is_cut_at_its_length(serve):
    def endless():
        while True:
            yield b"x"

    client = await serve(answers(endless, ("Content-Length", "3")))
    assert (await client.get()).body == b"xxx"
    await serve.idle()


async def test_write_beyond_the_length_raises(serve):
    def app(environ, start_response):
        write = start_response("200 OK", [TEXT, ("Content-Length", "3")])
        with pytest.raises(RuntimeError, match="longer than its Content-Length"):
            write(b"12345")
        return []

    client = await serve(app)
    assert (await client.get()).body == b"123"
    assert serve.lines == []


async def test_a_list_longer_than_its_length_is_cut_there(serve):
    client = await serve(answers([b"123", b"45"], ("Content-Length", "4")))
    assert (await client.get()).body == b"1234"
    await serve.idle()
    assert "longer than its Content-Length" in serve.lines[0]


async def test_a_body_shorter_than_its_length_is_cut(serve):
    body = Body(b"12")
    client = await serve(answers(body, ("Content-Length", "5")))
    await client.request()
    assert await client.is_cut()
    await serve.idle()
    assert body.closed == 1
    assert "shorter than its Content-Length, by 3 bytes" in serve.errors[0]


async def test_the_client_has_the_response_although_close_takes_long(serve):
    go = threading.Event()

    class Slow(Body):
        def close(self):
            go.wait()
            super().close()

    body = Slow(b"12345")
    client = await serve(answers(body, ("Content-Length", "5")))
    assert (await client.get()).body == b"12345"
    assert not body.closed
    go.set()
    await serve.idle()
    assert body.closed == 1


# What is no body, and what fails


@pytest.mark.parametrize("wrong", ["text", 3, None, bytearray(b"x"), [b"x"]])
@pytest.mark.parametrize("first", [False, True])
async def test_a_part_of_another_type_is_a_logged_error(serve, wrong, first):
    body = Body(wrong) if first else Body(b"part", wrong)
    client = await serve(answers(body), validate=False)
    await client.request()
    if first:
        assert (await client.answer()).status == 500
    else:
        assert await client.is_cut()
    await serve.idle()
    assert body.closed == 1
    assert serve.errors == [f'TypeError("a part of a response\'s body is bytes, not {type(wrong).__name__}")']


@pytest.mark.parametrize("result", [None, 3, "text", b"bytes", ["text"]])
async def test_a_result_that_is_no_body_is_a_logged_500(serve, result):
    client = await serve(answers(result), validate=False)
    assert (await client.get()).status == 500
    assert len(serve.errors) == 1


async def test_an_application_that_never_calls_start_response_gets_a_logged_500(serve):
    for result in ([], [b"body"], Body(), Body(b"body")):
        client = await serve(lambda environ, start_response, result=result: result, validate=False)
        assert (await client.get()).status == 500
        assert "start_response" in serve.errors[0]
        assert not isinstance(result, Body) or result.closed == 1
        await serve.restart()


@pytest.mark.parametrize("error", [ValueError("why"), SystemExit(3), KeyboardInterrupt(), StopIteration(1)])
async def test_an_error_before_the_response_is_a_500_and_one_traceback(serve, error):
    def app(environ, start_response):
        start_response("200 OK", [TEXT])
        raise error

    client = await serve(app)
    answer = await client.get()
    assert (answer.status, answer[b"connection"]) == (500, b"close")
    await serve.idle()
    assert serve.lines == ["the application failed: GET /"]


async def test_an_error_in_the_middle_cuts_the_response(serve):
    body = Body(b"part", ValueError("why"))
    client = await serve(answers(body))
    await client.request()
    assert await client.is_cut()
    await serve.idle()
    assert body.closed == 1
    assert serve.errors == ["ValueError('why')"]


async def test_the_log_of_an_error_has_the_applications_lines_once(serve, caplog):
    def app(environ, start_response):
        raise ValueError("why")

    client = await serve(app)
    await client.get(b"/caf%C3%A9%0Ax")
    (record,) = caplog.records
    text = caplog.text
    assert record.getMessage() == "the application failed: GET /caf\\xe9\\nx"
    assert text.count("Traceback") == 1
    assert 'raise ValueError("why")' in text


async def test_an_error_of_close_is_logged(serve):
    class Broken(Body):
        def close(self):
            raise ValueError("in close")

    client = await serve(answers(lambda: Broken(b"body")))
    assert (await client.get()).body == b"body"
    await serve.idle()
    assert serve.errors == ["ValueError('in close')"]


@pytest.mark.parametrize(
    ("status", "header"),
    [
        ("200 OK", ("X-A", "one\r\nX-B: two")),
        ("200 OK", ("X A", "1")),
        ("200 OK", (b"X-A", b"1")),
        ("200 OK", ("X-A", 1)),
        ("200 OK", ("X-A", "\u20ac")),
        ("200 OK", ("Content-Length", "many")),
        ("200 OK", "X-A"),
        ("OK", TEXT),
        ("2000 OK", TEXT),
        (b"200 OK", TEXT),
        (200, TEXT),
        ("101 Switching Protocols", TEXT),
    ],
)
async def test_a_head_that_cannot_be_sent_is_an_error_of_start_response(serve, status, header):
    raised = []

    def app(environ, start_response):
        try:
            start_response(status, [header])
        except Exception as error:
            raised.append(error)
            start_response("500 Own Page", [TEXT])
        return [b"own page"]

    client = await serve(app, validate=False)
    answer = await client.get()
    assert (answer.status, answer.body, len(raised)) == (500, b"own page", 1)


# Responses without a body


@pytest.mark.parametrize("body", [[], [b"body"], lambda: iter([b"bo", b"dy"]), lambda: iter(lambda: b"x", None)])
async def test_the_response_to_head_has_no_body(serve, body):
    client = await serve(answers(body), validate=False)
    answer = await client.get(method=b"HEAD")
    assert (answer.status, answer[b"content-length"], answer[b"transfer-encoding"]) == (200, None, None)
    assert (await client.get(method=b"HEAD")).status == 200
    await serve.idle()
    assert serve.lines == []


async def test_the_response_to_head_keeps_its_length(serve):
    client = await serve(answers([], ("Content-Length", "1000")))
    assert (await client.get(method=b"HEAD"))[b"content-length"] == b"1000"
    assert (await client.get(method=b"HEAD")).status == 200


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("body", [[], [b"body"], lambda: Body(b"", b"body")])
async def test_204_and_304_have_no_body(serve, status, body):
    client = await serve(answers(body, status=status), validate=False)
    for _ in range(2):
        answer = await client.get()
        assert (answer.status, answer[b"transfer-encoding"]) == (int(status[:3]), None)
        assert answer[b"content-length"] is None


async def test_there_is_one_date_and_the_applications_own_server(serve):
    client = await serve(answers([b""], ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("Server", "mine")))
    answer = await client.get()
    assert (answer[b"date"], answer[b"server"]) == (b"Thu, 01 Jan 1970 00:00:00 GMT", b"mine")
    await serve.restart()
    client = await serve(answers([b""]))
    answer = await client.get()
    assert re.fullmatch(rb"..., .. ... .... ..:..:.. GMT", answer[b"date"])
    assert answer[b"server"] is None


async def test_http_1_0_ends_with_the_connection(serve):
    client = await serve(answers(lambda: Body(b"one ", b"two")))
    await client.request(version=b"1.0")
    answer = await client.answer()
    assert (answer.body, answer[b"transfer-encoding"]) == (b"one two", None)


async def test_requests_that_come_together_are_answered_in_order(serve):
    def app(environ, start_response):
        start_response("200 OK", [TEXT])
        return [environ["PATH_INFO"].encode()]

    client = await serve(app)
    await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(20)))
    assert [(await client.answer()).body for _ in range(20)] == [b"/%d" % number for number in range(20)]


async def test_the_handshake_of_a_websocket_is_a_request(serve):
    def app(environ, start_response):
        start_response("426 Upgrade Required", [TEXT])
        return [environ["HTTP_UPGRADE"].encode()]

    client = await serve(app)
    answer = await client.get(
        b"/",
        *(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"),
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )
    assert (answer.status, answer.body) == (426, b"websocket")
    assert (await client.get(b"/", b"Upgrade: next")).body == b"next"


async def test_errors_go_to_standard_error(serve, capsys):
    def app(environ, start_response):
        environ["wsgi.errors"].write("something is wrong\n")
        environ["wsgi.errors"].flush()
        start_response("200 OK", [TEXT])
        return [b""]

    client = await serve(app)
    await client.get()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "something is wrong\n")


async def test_the_validator_is_content_with_a_framework(serve):
    flask = pytest.importorskip("flask")
    app = flask.Flask("t_valid")
    app.add_url_rule("/", view_func=lambda: f"hello {flask.request.args.get('name')}")
    client = await serve(app)
    assert (await client.get(b"/?name=a")).body == b"hello a"
    assert (await client.get(b"/", method=b"HEAD"))[b"content-length"] == b"10"
    assert (await client.get(b"/nothing")).status == 404
    assert serve.lines == []
