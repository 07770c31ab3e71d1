"""--reload: a change of a file is a reload, new before old, and connections stay open."""

import os
import pty
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from fdpass import Fd

from .conftest import alive, descendants, wait_until

pytest.importorskip("watchfiles")

APP = """
async def app(scope, receive, send):
    body = b"one"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": body})
"""
OPTIONS = "--reload", "--lifespan", "off", "--keep-alive", "60"


def change(server, text, name="app.py"):
    """Write a file as editors do: in one step."""
    new = server.folder / "new.tmp"
    new.write_text(text)
    os.replace(new, server.folder / name)


def watcher_of(server):
    (found,) = [pid for pid in descendants(server.pid) if "operator.watch" in command(pid)]
    return found


def command(pid):
    return Path(f"/proc/{pid}/cmdline").read_text()


@pytest.fixture
def watched(serve):
    """A server that has one worker, and watches its folder."""

    def start(*flags, text=APP, **more):
        server = serve("app:app", *OPTIONS, *flags, files={"app.py": text}, workers=None, **more)
        wait_until(lambda: watches(watcher_of(server)), "files are watched", server.log)
        return server

    return start


def watches(pid):
    """Whether a process watches files: proc_pid_fdinfo(5) lists the watches of an inotify descriptor."""
    for number in os.listdir(f"/proc/{pid}/fdinfo"):
        try:
            if "inotify wd:" in Path(f"/proc/{pid}/fdinfo/{number}").read_text():
                return True
        except FileNotFoundError:
            continue
    return False


def test_a_change_is_served_on_the_same_connection_and_broken_code_is_not(watched, client):
    server = watched()
    connection = client(server)
    assert connection.send().answer() == (200, "one")
    assert len(server.workers()) == 1
    change(server, APP.replace("one", "two"))
    server.wait_log("generation 2 serves")
    server.wait_log("has retired")  # until then the connection may still be the old worker's
    assert connection.send().answer() == (200, "two")
    change(server, "import there_is_no_such_module\n")
    log = server.wait_log("generation 2 goes on")
    assert "changed: app.py" in log
    assert 'app.py", line 1, in <module>\n    import there_is_no_such_module' in log
    assert connection.send().answer() == (200, "two")
    change(server, APP.replace("one", "six"))
    server.wait_log("generation 3 serves")
    server.wait_log("has retired", 2)
    assert connection.send().answer() == (200, "six")
    watcher = watcher_of(server)
    assert server.stop() == 0
    assert not alive(watcher)


def test_only_files_that_count_reload_the_server(watched, client):
    server = watched("--reload-include", "*.html", "--reload-exclude", "made_*.py")
    for name in ("data.txt", "made_by_tool.py", ".hidden.py"):
        change(server, "1", name)
    change(server, "<p>", "page.html")
    log = server.wait_log("generation 2 serves")
    assert [line.partition("changed: ")[2] for line in log.splitlines() if "changed: " in line] == ["page.html"]


def test_the_watcher_ends_with_a_server_that_is_killed(watched):
    server = watched()
    watcher, workers = watcher_of(server), descendants(server.pid)
    server.kill(signal.SIGKILL)
    server.wait_end()
    wait_until(lambda: not alive(watcher), "the watcher has ended", server.log)
    wait_until(lambda: not any(map(alive, workers)), "workers have ended", server.log)


def test_a_server_that_cannot_start_waits_for_a_change_and_starts_then(serve, client):
    server = serve("app:app", *OPTIONS, files={"app.py": "1 / 0\n"}, workers=None, ready=False)
    log = server.wait_log("waiting for a change of a file")
    assert "ZeroDivisionError" in log
    wait_until(lambda: watches(server.pid), "files are watched", server.log)
    change(server, APP)
    server.wait_heard("READY=1")
    assert client(server).send().answer() == (200, "one")


def test_a_server_that_waits_for_a_change_can_be_interrupted(serve):
    server = serve("app:app", *OPTIONS, files={"app.py": "1 / 0\n"}, workers=None, ready=False)
    server.wait_log("waiting for a change of a file")
    server.kill(signal.SIGINT)
    assert server.wait_end() in {-signal.SIGINT, 130}


@pytest.mark.parametrize("colors", [True, False])
def test_on_a_terminal_there_is_an_access_log_with_colours_and_the_url(tmp_path, colors):
    (tmp_path / "app.py").write_text(APP)
    ours, theirs = map(Fd, pty.openpty())
    with ours, theirs:
        env = {**os.environ, "TERM": "xterm", "NO_COLOR": "" if colors else "1"}
        words = ["app:app", "--port", "0", "-w", "1", "--lifespan", "off", "--control", "control"]
        process = subprocess.Popen(
            [sys.executable, "-m", "fdpass", "serve", *words],
            cwd=tmp_path,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        try:
            text = ""
            while (url := re.search(r"ready: (http://127\.0\.0\.1:\d+)\r\n", text)) is None:
                text += os.read(ours.fileno(), 4096).decode()
            with urllib.request.urlopen(f"{url[1]}/path") as response:
                assert response.read() == b"one"
            while (line := re.search(r'"GET /path HTTP/1.1" (\S+) 3 pid=', text)) is None:
                text += os.read(ours.fileno(), 4096).decode()
        finally:
            process.terminate()
            process.wait(60)
    assert line[1] == ("\x1b[32m200\x1b[0m" if colors else "200")
