"""``--spare``: a worker that is ready steps in at once, however long a start takes."""

from pathlib import Path

SLOW = """
import os, time
while os.path.exists("slow"):
    time.sleep(0.01)
from real import app
"""
"""An application whose import ends once there is no file of the name "slow"."""


def real_app():
    return (Path(__file__).parent / "kept_app.py").read_text()


def test_a_spare_worker_steps_in_while_the_next_one_has_not_started_yet(kept, client):
    server = kept("--workers", "1", "--spare", "1", files={"kept.py": SLOW, "real.py": real_app()})
    idle, busy = client(server), client(server)
    (first,) = {client(server).ask().told()["pid"] for _ in range(4)}  # a spare one gets nothing before
    (spare,) = set(server.workers()) - {first}
    assert idle.ask().told()["pid"] == first
    busy.ask("/wait", "t")
    assert server.wait_executed("t") == first
    (server.folder / "slow").touch()
    server.kill_worker(first)
    told = busy.told()
    assert (told["pid"], told["attempt"]) == (spare, 1)
    assert idle.ask().told()["pid"] == spare
    assert client(server).ask().told()["pid"] == spare
    assert len(server.workers("starting")) == 1
    server.wait_connections(accepted=7, live=7, lost=0, moved=5, replayed=1)
    (server.folder / "slow").unlink()
    server.wait_status(lambda status: all(each["state"] == "ready" for each in status["workers"]))
    assert len(server.workers()) == 2
    assert idle.ask().told()["pid"] == spare


def test_without_a_spare_one_clients_wait_for_a_start_and_none_is_refused(kept, client):
    server = kept("--workers", "1", files={"kept.py": SLOW, "real.py": real_app()})
    idle = client(server)
    first = idle.ask().told()["pid"]
    (server.folder / "slow").touch()
    server.kill_worker(first)
    idle.ask(token="idle")
    fresh = client(server).ask(token="fresh")
    assert server.workers() == []
    (server.folder / "slow").unlink()
    assert idle.told()["pid"] == fresh.told()["pid"] != first
    server.wait_connections(accepted=2, live=2, lost=0, moved=1)
