"""One process listens, workers serve: pages, and that the load is even."""

from websockets.sync.client import connect

IMPORTED = """
    import sys

    async def app(scope, receive, send):
        imported = str("uvicorn" in sys.modules)
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": imported})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": imported.encode()})
"""


def test_two_requests_are_served_by_two_workers(serve):
    server = serve()
    assert sorted(int(server.get()[1]) for _ in range(2)) == sorted(server.workers())


def test_the_books_agree_when_all_has_ended(serve):
    server = serve()
    for _ in range(5):
        assert server.get()[0] == 200
    server.wait_connections(accepted=5, handed=5, finished=5, live=0, lost=0)


def test_sigterm_stops_it_with_exit_code_0(serve):
    server = serve()
    assert server.stop() == 0
    assert "Traceback" not in server.log()


def test_a_worker_imports_uvicorn_for_its_first_websocket(serve):
    """Without, it takes less memory, and starts sooner."""
    server = serve("app:app", "--workers", "1", "--lifespan", "off", files={"app.py": IMPORTED})
    assert server.get() == (200, "False")
    with connect(f"ws://127.0.0.1:{server.address[1]}/") as websocket:
        assert websocket.recv() == "True"
    assert server.get() == (200, "True")


def test_a_worker_whose_websockets_can_be_resumed_imports_it_at_its_start(serve):
    """It may get thousands of them at once."""
    server = serve("app:app", "--workers", "1", "--resume", "/ws", files={"app.py": IMPORTED})
    assert server.get() == (200, "True")
