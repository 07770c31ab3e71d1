"""What takes its time: a response behind which a request waits, and a task behind a response."""

import time

import pytest

APP = """
    import asyncio, os

    async def app(scope, receive, send):
        body = b"x" * (12_000_000 if scope["path"] == "/huge" else 5)
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        if scope["path"] == "/task":
            try:
                while not os.path.exists("go"):
                    await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                open("cancelled", "w").close()
                raise
            open("done", "w").close()

    def wsgi(environ, start_response):
        import time

        class Body(list):
            def close(self):
                while not os.path.exists("go"):
                    time.sleep(0.01)
                open("done", "w").close()

        start_response("200 OK", [("content-length", "5")])
        return Body([b"xxxxx"])
"""
_CANCELLED_SECONDS = 2.5  # in which tasks were cancelled, whatever the time they had


@pytest.mark.parametrize("custody", ["on", "off"])
def test_a_pipelined_request_is_answered_though_the_answer_before_it_takes_longer_than_keep_alive(
    serve, client, custody
):
    flags = ("--workers", "1", "--keep-alive", "0.2", "--custody", custody)
    one = client(serve("app:app", *flags, files={"app.py": APP}))
    one.send("/huge").send("/")
    status, headers = one.head()
    time.sleep(0.6)  # three times keep-alive, while most of it waits in the worker
    assert (status, len(one.body(headers))) == (200, 12_000_000)
    assert one.answer() == (200, "xxxxx")
    assert one.ended()


@pytest.mark.parametrize("custody", ["on", "off"])
@pytest.mark.parametrize("name", ["app", "wsgi"])
def test_a_task_behind_a_response_is_in_progress_when_its_worker_retires(serve, client, tools, name, custody):
    server = serve(f"app:{name}", "--workers", "1", "--custody", custody, files={"app.py": APP})
    client(server).send("/task").answer()
    server.cli("reload")
    time.sleep(_CANCELLED_SECONDS)
    (server.folder / "go").touch()
    tools.wait_until((server.folder / "done").exists, "its task is done: ", server.log)
    assert not (server.folder / "cancelled").exists()
    server.wait_log("has retired")


def test_such_a_task_ends_after_the_graceful_timeout(serve, client, tools):
    flags = ("--workers", "1", "--graceful-timeout", "0.3")
    server = serve("app:app", *flags, files={"app.py": APP})
    client(server).send("/task").answer()
    server.cli("reload")
    server.wait_log("has retired")
    assert (server.folder / "cancelled").exists()
