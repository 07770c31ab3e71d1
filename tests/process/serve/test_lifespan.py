"""ASGI's lifespan: run before the first request and after the last, where it is wanted and known."""

import pytest

LIVES = """
    import os

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["pid"] = os.getpid()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print(f"{os.getpid()} shuts down", flush=True)
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = str(scope.get("state", {}).get("pid")).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
"""
IGNORES = """
    async def app(scope, receive, send):
        assert scope["type"] == "http", "I know no lifespan"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})
"""
FAILS = """
    async def app(scope, receive, send):
        await receive()
        try:
            {}["database"]
        except KeyError as error:
            await send({"type": "lifespan.startup.failed", "message": "the database is away"})
"""


@pytest.mark.parametrize("lifespan", ["on", "auto"])
def test_startup_runs_before_requests_and_shutdown_at_the_end(serve, lifespan):
    server = serve("app:app", "--lifespan", lifespan, files={"app.py": LIVES})
    workers = server.workers()
    assert {int(server.get()[1]) for _ in range(2)} == set(workers)
    assert server.stop() == 0
    for pid in workers:
        assert server.log().count(f"{pid} shuts down") == 1


def test_off_leaves_it_out(serve):
    server = serve("app:app", "--lifespan", "off", "--workers", "1", files={"app.py": LIVES})
    assert server.get() == (200, "None")
    assert server.stop() == 0
    assert "shuts down" not in server.log()


def test_auto_goes_on_with_an_application_that_does_not_know_it(serve):
    server = serve("app:app", "--workers", "1", files={"app.py": IGNORES})
    assert server.get() == (200, "served")
    assert "Traceback" not in server.log()


def test_on_refuses_an_application_that_does_not_know_it(serve):
    flags = ("--lifespan", "on", "--workers", "1")
    server = serve("app:app", *flags, files={"app.py": IGNORES}, ready=False)
    assert server.wait_end() == 1
    assert "the application's lifespan startup failed" in server.log()
    assert "AssertionError: I know no lifespan" in server.log()


def test_a_startup_that_fails_later_is_tried_again_and_its_reason_told_once(serve):
    text = (
        FAILS
        + """
        else:
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
    """
    )
    text = text.replace("{}[", "({} if os.path.exists('away') else {'database': 1})[")
    server = serve("app:app", "--workers", "1", files={"app.py": "    import os\n" + text})
    (server.folder / "away").touch()
    server.kill_worker(*server.workers())
    log = server.wait_log("trying again", 2)
    assert log.count("the application's lifespan startup failed") == 1
    assert log.count("the database is away") == 1
    assert server.stop() == 0


def test_a_worker_that_is_not_ready_in_time_is_reported_and_the_server_ends(serve):
    text = "import asyncio\nasync def app(scope, receive, send):\n    await asyncio.Event().wait()\n"
    server = serve("app:app", "--workers", "1", "--start-timeout", "0.5", files={"app.py": text}, ready=False)
    assert server.wait_end() == 1
    assert "a worker was not ready within 0.5 s (--start-timeout)" in server.log()
