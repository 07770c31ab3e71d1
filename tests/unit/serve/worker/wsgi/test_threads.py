"""The threads: requests wait for a free one, clients that leave give theirs back, and one that hangs is named."""

import asyncio
import contextvars
import queue
import threading

import pytest

TEXT = ("Content-Type", "text/plain")


async def test_at_most_so_many_requests_run_at_a_time(serve):
    running, most, go = [], [], threading.Semaphore(0)

    def app(environ, start_response):
        running.append(True)
        most.append(len(running))
        go.acquire()
        running.pop()
        start_response("200 OK", [TEXT])
        return [threading.current_thread().name.encode()]

    clients = [await serve(app, threads=3)]
    clients += [await serve.connect() for _ in range(9)]
    for client in clients:
        await client.request()
    await serve.until(lambda: len(running) == 3)
    for _ in clients:
        go.release()
    names = [(await client.answer()).body for client in clients]
    assert len(set(names)) == 3
    assert max(most) == 3


async def test_no_thread_is_started_that_is_not_needed(serve):
    def app(environ, start_response):
        start_response("200 OK", [TEXT, ("Content-Length", "2")])
        return [b"ok"]

    client = await serve(app)
    for _ in range(20):
        await client.get()
        await serve.idle()
    assert len(serve.server.engine._threads._threads) == 1


@pytest.mark.parametrize("by", ["body", "write"])
async def test_clients_of_a_stream_that_leave_give_their_threads_back(serve, by):
    """`close` is called each time (PEP 3333), or ``write`` raises."""
    events = {f"/{number}": queue.SimpleQueue() for number in range(6)}
    ended = []

    class Stream:
        def __init__(self, path):
            self._path = path

        def __iter__(self):
            return self

        def __next__(self):
            return events[self._path].get()

        def close(self):
            ended.append(self._path)

    def app(environ, start_response):
        path = environ["PATH_INFO"]
        write = start_response("200 OK", [("Content-Type", "text/event-stream")])
        if by == "body":
            return Stream(path)
        try:
            while True:
                write(events[path].get())
        finally:
            ended.append(path)

    clients = [await serve(app, threads=3)]
    for path, waiting in events.items():  # with three threads
        client = clients.pop() if clients else await serve.connect()
        await client.request(path.encode())
        waiting.put(b"data: 1\n\n")
        await client.until(b"\n\n")
        client.close()
        if int(path[1:]) % 3 == 2:
            for each in events.values():  # which shows that the clients do not only send nothing more
                each.put(b"data: 2\n\n")
            await serve.server.settled.wait()
            for each in events.values():
                each.put(b"data: 3\n\n")
            await serve.idle()
            assert len(ended) == int(path[1:]) + 1
    assert sorted(ended) == list(events)
    assert serve.lines == []


async def test_a_client_that_leaves_ends_an_application_that_waits_for_it(serve):
    """Its queue is full, as the client does not read."""
    ended = []

    def app(environ, start_response):
        start_response("200 OK", [TEXT])
        try:
            while True:
                yield bytes(100_000)
        finally:
            ended.append(True)

    client = await serve(app)
    await client.request()
    await client.until(b"\r\n\r\n")
    client.reset()
    await serve.idle()
    assert ended == [True]
    assert serve.lines == []


async def test_a_request_whose_client_has_left_in_the_queue_is_not_begun(serve):
    go, called = threading.Event(), []

    def app(environ, start_response):
        called.append(environ["PATH_INFO"])
        go.wait()
        start_response("200 OK", [TEXT])
        return [b""]

    first = await serve(app, threads=1)
    await first.request(b"/1")
    second = await serve.connect()
    await second.request(b"/2")
    await serve.until(lambda: len(serve.server.engine.exchanges) == 2)
    second.close()
    await serve.until(lambda: len(serve.server.engine.connections) == 1)
    go.set()
    assert (await first.answer()).status == 200
    await serve.idle()
    assert called == ["/1"]


async def test_a_request_does_not_see_the_context_variables_of_another(serve):
    found = contextvars.ContextVar("found", default=b"nothing")

    def app(environ, start_response):
        start_response("200 OK", [TEXT])
        before = found.get()
        found.set(b"something")
        yield before
        assert found.get() == b"something"

    client = await serve(app, threads=1)
    assert [(await client.get()).body for _ in range(3)] == [b"nothing"] * 3


async def test_nothing_is_kept_of_a_request_that_is_over(serve):
    import gc
    import weakref

    class Held:
        pass

    held = weakref.WeakSet()

    def app(environ, start_response):
        environ["held"] = Held()
        held.add(environ["held"])
        start_response("200 OK", [TEXT])
        environ["wsgi.input"].read()
        return [b""]

    gc.disable()
    try:
        client = await serve(app, validate=False)
        await client.get()
        await client.get(b"/", method=b"POST", body=bytes(100))
        await serve.idle()
        assert len(held) == 0
    finally:
        gc.enable()


# Threads that hang


def hangs(go):
    def app(environ, start_response):
        start_response("200 OK", [TEXT])
        if environ["PATH_INFO"].startswith("/hang"):
            yield b"first"
            wait_for_the_database(go)
        yield b"ok"

    return app


def wait_for_the_database(go):
    go.wait()


async def test_a_request_that_hangs_is_named_with_its_stack(serve):
    go = threading.Event()
    client = await serve(hangs(go), request_timeout=0.05, threads=10)
    await client.request(b"/hang%0A", method=b"POST")
    found = []
    await serve.until(lambda: found.extend(serve.lines) or found)
    await asyncio.sleep(0.2)  # it is said once
    found += serve.lines
    go.set()
    assert len(found) == 1
    assert found[0].startswith("POST /hang\\n has kept its thread for 0.")
    assert "s (--request-timeout); the thread is at:\n  File " in found[0]
    assert "in wait_for_the_database\n    go.wait()" in found[0]
    assert "worker/wsgi/threads.py" not in found[0]
    await serve.idle()
    assert serve.server.left == 0


async def test_the_worker_is_replaced_when_half_of_its_threads_hang(serve):
    go = threading.Event()
    first = await serve(hangs(go), request_timeout=0.05, threads=3)
    await first.request(b"/hang")
    found = []
    await serve.until(lambda: found.extend(serve.lines) or found)
    assert serve.server.left == 0
    second = await serve.connect()
    await second.request(b"/hang")
    await serve.until(lambda: serve.server.left)
    third = await serve.connect()
    assert (await third.get()).body == b"ok"
    go.set()
    await serve.idle()
    assert serve.server.left == 1
    assert serve.lines[-1] == "2 of 3 threads hang (--request-timeout): the worker is replaced"


@pytest.mark.parametrize("waits", ["for the body", "for a slow client"])
async def test_a_thread_that_waits_for_its_client_does_not_hang(serve, waits):
    def app(environ, start_response):
        count = len(environ["wsgi.input"].read(4))
        start_response("200 OK", [TEXT])
        yield b"%d" % count
        for _ in range(300 if waits == "for a slow client" else 0):
            yield bytes(100_000)

    client = await serve(app, request_timeout=0.05, threads=1)
    if waits == "for the body":
        await client.request(b"/", b"Content-Length: 4", method=b"POST")
    else:
        await client.request()
    await asyncio.sleep(0.3)
    assert serve.lines == []
    if waits == "for the body":
        await client.send(b"body")
        assert (await client.answer()).body == b"4"


async def test_a_request_that_goes_on_does_not_hang(serve):
    """The time counts since the last part, not since the start."""

    def app(environ, start_response):
        start_response("200 OK", [TEXT])
        for _ in range(30):
            threading.Event().wait(0.01)
            yield b"part"

    client = await serve(app, request_timeout=0.2)
    assert len((await client.get()).body) == 120
    assert serve.lines == []


async def test_without_the_setting_nothing_hangs(serve):
    go = threading.Event()
    client = await serve(hangs(go), threads=1)
    await client.request(b"/hang")
    await client.until(b"first")
    assert serve.server.engine._threads._watching is None
    go.set()


# The end


async def test_the_end_waits_for_requests_in_threads(serve):
    go = threading.Event()
    client = await serve(hangs(go))
    await client.request(b"/hang")
    await client.until(b"first\r\n")
    ending = asyncio.create_task(serve.server.engine.finish(30, retiring=True))
    await asyncio.sleep(0.1)
    assert not ending.done()
    go.set()
    assert await client.until(b"\r\n0\r\n\r\n") == b"2\r\nok"
    await ending


async def test_after_the_graceful_time_the_response_is_cut_and_the_thread_left(serve):
    go = threading.Event()
    client = await serve(hangs(go))
    await client.request(b"/hang")
    await client.until(b"first\r\n")
    (thread,) = serve.server.engine._threads._threads
    await serve.server.engine.finish(0, retiring=True)
    assert b"0\r\n\r\n" not in await client.rest()
    assert thread.daemon
    go.set()
    thread.join(10)
    await serve.idle()
