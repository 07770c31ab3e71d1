"""What a running server tells: counts that survive deaths, events, process names, lists, and the live screen."""

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

from .conftest import LIMIT, wait_until

COMMAND = [sys.executable, "-m", "fdpass"]
APP = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        status = int(scope["path"][1:] or 200)
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
"""


FILES = {"app.py": APP}


def test_counts_go_on_when_a_worker_dies(serve):
    """Responses, durations, bytes and handoffs of the dead worker are in the totals; its death has a cause."""
    server = serve("app:app", "--workers", "1", files=FILES)
    for path in ("/", "/204", "/404", "/500", "/500"):
        assert server.get(path)[0] == int(path[1:] or 200)
    expected = {"1xx": 0, "2xx": 2, "3xx": 0, "4xx": 1, "5xx": 2}
    server.wait_status(lambda status: status["requests"]["responses"] == expected)
    server.wait_connections(live=0)  # else one that its client has closed would move to the next worker
    (pid,) = server.workers()
    server.kill_worker(pid)
    status = server.wait_status(lambda status: status["workers"] and status["workers"][0]["state"] == "ready")
    assert status["requests"]["responses"] == expected
    assert status["workers"][0]["responses"] == dict.fromkeys(expected, 0)
    latency = status["requests"]["latency"]
    assert {name: sum(counts) for name, counts in latency["counts"].items()} == expected
    assert 0 < latency["seconds"] < LIMIT
    assert sum(status["handoffs"]["latency"]["counts"]) == status["connections"]["handed"] == 5
    assert status["requests"]["handled"] == 5
    assert min(status["bytes"].values()) > 5 * 40
    assert status["deaths"] == {"SIGKILL": 1}
    assert status["starts"] == {"started": 2, "failed": 0, "restarts": 1, "failure": ""}
    assert server.get("/")[0] == 200
    server.wait_status(lambda status: status["requests"]["responses"]["2xx"] == 3)
    assert server.stop() == 0


def test_the_backlog_is_counted_while_there_is_no_room(serve):
    server = serve("app:app", "--workers", "1", "--max-connections", "1", files=FILES)
    with server.connect(), server.connect(), server.connect():
        status = server.wait_status(lambda status: status["listeners"][0]["backlog"] == 2)
        assert status["waits"]["waiting"] is True
        assert status["waits"]["count"] == 1
    server.wait_status(lambda status: status["waits"]["waiting"] is False)
    assert server.stop() == 0


def test_events_are_fields_and_can_be_followed(serve):
    """The lines of the log and of ``fdpass events`` are the same objects, though the log shows only errors."""
    server = serve("app:app", "--workers", "1", "--log-json", "--log-level", "error", files=FILES)
    follow = subprocess.Popen(
        [*COMMAND, "events", "--follow", "--json", "--control", server.control], stdout=subprocess.PIPE, text=True
    )
    with follow:
        first = [json.loads(follow.stdout.readline()) for _ in range(3)]
        assert [event["event"] for event in first] == ["server_started", "worker_ready", "server_ready"]
        (pid,) = server.workers()
        server.kill_worker(pid)
        died, ready = (json.loads(follow.stdout.readline()) for _ in range(2))
        died.pop("id")
        assert died.items() >= {"event": "worker_died", "worker": pid, "generation": 1, "cause": "SIGKILL"}.items()
        assert ready["event"] == "worker_ready"
        assert server.stop() == 0
        rest = [json.loads(line)["event"] for line in follow.stdout]
        assert follow.wait(LIMIT) == 0
    assert rest == ["server_stopping", "worker_retired"][: len(rest)]
    assert [json.loads(line) for line in server.log().splitlines()] == [died]


def test_a_worker_has_a_name_and_its_lines_have_its_fields(serve):
    server = serve("app:app", "--workers", "1", "--log-json", files={"app.py": APP.replace("status =", "x =")})
    (worker,) = server.status()["workers"]
    cmdline = Path(f"/proc/{worker['pid']}/cmdline").read_bytes().rstrip(b"\0").decode()
    assert cmdline == f"fdpass: worker {worker['number']} of {server.status()['server']['app']}"
    assert Path(f"/proc/{worker['pid']}/comm").read_text() == "fdpass-worker\n"
    assert server.get("/")[0] == 500
    line = json.loads(
        next(line for line in server.wait_log("application_failed").splitlines() if "_failed" in line)
    )
    assert (line["worker"], line["generation"], line["level"]) == (worker["pid"], 1, "error")
    assert server.stop() == 0


def test_list_shows_servers_and_two_of_them_need_no_control(tmp_path):
    """The second server has its address in the default path; a command says which servers there are."""
    (tmp_path / "shop.py").write_text(APP)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    options = {"cwd": tmp_path, "env": environment, "text": True, "capture_output": True, "timeout": LIMIT}
    command = [*COMMAND, "serve", "shop:app", "--workers", "1", "--log-level", "critical"]
    with contextlib.ExitStack() as held:
        started = []
        for name in ("one", "two"):
            process = subprocess.Popen([*command, "--bind", f"unix:./{name}"], cwd=tmp_path, env=environment)
            held.callback(process.wait, LIMIT)
            held.callback(process.terminate)
            started.append(process.pid)
            path = tmp_path / ("fdpass.sock" if name == "one" else "fdpass-unix:.-two.sock")
            wait_until(path.exists, "a control socket: ", lambda: sorted(os.listdir(tmp_path)))
        refused = subprocess.run([*COMMAND, "status"], check=False, **options)
        assert refused.returncode == 1
        assert "several servers run: choose one with --control" in refused.stderr
        listed = json.loads(subprocess.run([*COMMAND, "list", "--json"], check=True, **options).stdout)
        ours = {server["pid"]: server["control"] for server in listed if server["pid"] in started}
        assert ours == {started[0]: str(tmp_path / "fdpass.sock"), started[1]: str(path)}
        subprocess.run([*COMMAND, "stop", "--control", str(path)], check=True, **options)
        assert subprocess.run([*COMMAND, "status"], check=True, **options).stdout.startswith(
            "shop:app at unix:./one"
        )


def test_top_shows_the_server_and_acts_by_keys(serve):
    server = serve("app:app", "--workers", "1", files=FILES)
    master, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    before = termios.tcgetattr(end)
    environment = {**os.environ, "TERM": "xterm"}
    command = [*COMMAND, "top", "--every", "0.2", "--control", server.control]
    with subprocess.Popen(command, stdin=end, stdout=end, env=environment, start_new_session=True) as top:
        try:
            screen = Screen(master)
            screen.wait_for("is ready")
            os.write(master, b"r")
            screen.wait_for("reload: generation 2 serves")
            os.write(master, b"+")
            screen.wait_for("scale: 2 workers")
            assert len(server.workers()) == 2
            os.write(master, b"\x1b[B")
            os.write(master, b"x")
            screen.wait_for("has retired")
            assert server.status()["server"]["generation"] == 2
            os.write(master, b"q")
            assert top.wait(LIMIT) == 0
        finally:
            if top.poll() is None:
                top.kill()
    assert termios.tcgetattr(end) == before
    os.close(end)
    assert "\x1b[?1049l" in screen.rest()  # the screen from before is back
    os.close(master)
    assert server.stop() == 0


class Screen:
    """What a terminal was sent."""

    def __init__(self, master):
        self._master = master
        self.shown = ""

    def wait_for(self, text):
        while text not in self.shown:
            self.shown += os.read(self._master, 65536).decode(errors="replace")

    def rest(self):
        with contextlib.suppress(OSError):  # EIO: no process has the other side
            while more := os.read(self._master, 65536):
                self.shown += more.decode(errors="replace")
        return self.shown


def test_top_ends_with_the_server_and_refuses_what_is_no_terminal(serve):
    server = serve("app:app", "--workers", "1", files=FILES)
    refused = server.cli("top", check=False)
    assert refused.returncode == 1
    assert "needs a terminal" in refused.stderr
    watched = subprocess.Popen(
        [*COMMAND, "status", "--watch", "--every", "0.1", "--control", server.control],
        stdout=subprocess.PIPE,
        text=True,
    )
    with watched:
        assert [watched.stdout.readline() for _ in range(8)].count("\n") >= 1
        assert server.stop(signal.SIGTERM) == 0
        assert all(len(line) <= 81 for line in watched.stdout)
        assert watched.wait(LIMIT) == 0
