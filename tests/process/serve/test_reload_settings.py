"""A refused reload changes no setting of the running server; an accepted reload changes them."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from ._reload_helpers import all_ready
from .conftest import open_files

APP = """
import asyncio, logging, os

logging.getLogger("fdpass").info("imported by generation %s", open("generation").read())

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})

other = app
"""
NOTHING_SUCH = "app = 'nosuch:app'\n"


class Settings:
    """A server with one worker, whose settings stand in a file."""

    def __init__(self, serve, text):
        files = {"app.py": APP, "serve.toml": f"app = 'app:app'\nworkers = 1\n{text}", "generation": "1", "go": ""}
        self.server = serve(None, "--config", "serve.toml", files=files, workers=None)
        self.folder = self.server.folder

    def write(self, text):
        (self.folder / "generation").write_text("2")
        base = {"app": "app = 'app:app'", "workers": "workers = 1"}
        lines = [line for name, line in base.items() if f"{name} =" not in text]
        (self.folder / "serve.toml").write_text("\n".join([*lines, text]))

    def accepted(self, text):
        """Reload with these settings, with success."""
        self.write(text)
        assert self.server.cli("reload").stdout == "generation 2 serves\n"

    def refused(self, text):
        """Reload with these settings and an application that does not exist, without success."""
        self.write(NOTHING_SUCH + text)
        done = self.server.cli("reload", check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("fdpass reload: cannot import 'nosuch:app': ")

    def scaled(self):
        """Scale, and return the line that the server logs about it; "" if it logs none."""
        self.server.cli("scale", "3")
        return next((line for line in self.server.log().splitlines() if "scaling from " in line), "")

    def get(self, path, count):
        """Send a request, and wait until ``count`` connections have ended, and so are logged."""
        assert self.server.get(path)[0] == 200
        self.server.wait_connections(finished=count, live=0)

    def logged(self, path):
        """Return the names of the access logs that have a line of this request."""
        files = [self.folder / name for name in ("first", "second")]
        return [file.name for file in files if file.exists() and path in file.read_text()]


@pytest.fixture
def settings(serve):
    """``settings(text)``: `Settings` of a new server."""
    return lambda text="": Settings(serve, text)


def test_a_refused_reload_keeps_the_log_level(settings):
    one = settings("log-level = 'info'\n")
    one.refused("log-level = 'error'\n")
    assert "to 3 workers" in one.scaled()


def test_an_accepted_reload_changes_the_log_level_of_dispatcher_and_workers(settings):
    one = settings("log-level = 'info'\n")
    one.accepted("log-level = 'error'\n")
    assert one.scaled() == ""
    assert one.server.log().count("imported by generation 1") == 1
    assert "imported by generation 2" not in one.server.log()


def test_a_refused_reload_keeps_the_log_format(settings):
    one = settings()
    one.refused("log-json = true\n")
    assert not one.scaled().startswith("{")


def test_an_accepted_reload_changes_the_log_format_of_dispatcher_and_workers(settings):
    one = settings()
    one.accepted("log-json = true\n")
    assert json.loads(one.scaled())["message"] == "scaling from 1 to 3 workers"
    lines = [line for line in one.server.log().splitlines() if "imported by" in line]
    assert [line.startswith("{") for line in lines] == [False, True, True, True]


FIRST, SECOND, OFF = "access-log = 'first'\n", "access-log = 'second'\n", ""
MOVES = {"changed": (FIRST, SECOND), "on": (OFF, SECOND), "off": (FIRST, OFF)}


@pytest.mark.parametrize(("before", "after"), MOVES.values(), ids=MOVES)
def test_a_refused_reload_keeps_the_access_log_and_closes_the_new_one(settings, tools, before, after):
    one = settings(before)
    one.get("/early", 1)
    held = len(open_files(one.server.pid))
    one.refused(after)
    assert not [path for path in open_files(one.server.pid).values() if path.endswith("/second")]
    one.get("/late", 2)
    assert one.logged("/early") == one.logged("/late") == (["first"] if before else [])
    tools.wait_until(lambda: len(open_files(one.server.pid)) <= held, "open files: ", lambda: held)


@pytest.mark.parametrize(("before", "after"), MOVES.values(), ids=MOVES)
def test_an_accepted_reload_changes_the_access_log_and_closes_the_old_one(settings, before, after):
    one = settings(before)
    one.get("/early", 1)
    one.accepted(after)
    one.get("/late", 2)
    assert one.logged("/early") == (["first"] if before else [])
    assert one.logged("/late") == (["second"] if after else [])
    assert not [path for path in open_files(one.server.pid).values() if path.endswith("/first")]


def test_a_refused_reload_keeps_the_application_in_the_status(settings):
    one = settings()
    one.refused("")
    assert one.server.status()["server"]["app"] == "app:app"
    assert "app:app at " in one.server.cli("status").stdout


def test_an_accepted_reload_changes_the_application_in_the_status(settings):
    one = settings()
    one.accepted("app = 'app:other'\n")
    assert one.server.status()["server"]["app"] == "app:other"


def test_a_refused_reload_keeps_the_number_of_workers(settings):
    one = settings()
    one.refused("workers = 2\n")
    assert "scaling from 1 to 3 workers" in one.scaled()


def test_an_accepted_reload_changes_the_number_of_workers(settings):
    one = settings()
    one.accepted("workers = 2\n")
    assert len(one.server.workers()) == 2
    assert "scaling from 2 to 3 workers" in one.scaled()


@pytest.mark.parametrize("ends", ["accepted", "refused", "stopped"])
def test_settings_change_only_when_the_next_generation_serves(settings, tools, ends):
    one = settings(FIRST)
    server = one.server
    (one.folder / "go").unlink()
    one.write(SECOND + "app = 'app:other'\nlog-level = 'error'\n")
    command = [sys.executable, "-m", "fdpass", "reload", "--control", server.control]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reload:
        status = server.wait_status(lambda status: [w for w in status["workers"] if w["state"] == "starting"])
        assert status["server"]["app"] == "app:app"
        server.kill(signal.SIGUSR1)
        server.wait_log("access log opened again")  # at the level from before
        one.get("/early", 1)
        assert one.logged("/early") == ["first"]
        if ends == "stopped":
            assert server.stop() == 0
            assert reload.communicate(timeout=60)[1] == "fdpass reload: the server is stopping\n"
            server.wait_heard("STOPPING=1")
            with pytest.raises(AssertionError, match="the server has ended"):
                server.wait_heard("READY=1")  # its manager would take it for one that goes on
            return
        if ends == "refused":
            (new,) = server.workers("starting")
            os.kill(new, signal.SIGKILL)
        (one.folder / "go").touch()
        told, _ = reload.communicate(timeout=60)
    one.get("/late", 2)
    assert told == ("generation 2 serves\n" if ends == "accepted" else "")
    assert one.logged("/late") == (["second"] if ends == "accepted" else ["first"])
    assert server.status()["server"]["app"] == ("app:other" if ends == "accepted" else "app:app")


def test_a_deploy_by_a_symlink_is_served_after_a_reload(serve, tmp_path):
    """Code and settings; and a worker that is replaced before the reload still has the old ones."""
    text = """
        import os, sys
        path = sys.path[0]
        os.chdir("/")
        async def app(scope, receive, send):
            body = f"VERSION {path} {os.getpid()}".encode()
            headers = [(b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
    """
    current, new = tmp_path / "current", tmp_path / "new"
    current.symlink_to("server0")
    new.mkdir()
    (new / "app.py").write_text(textwrap.dedent(text.replace("VERSION", "new")))
    settings = {"app.py": text.replace("VERSION", "old"), "pyproject.toml": "[tool.fdpass]\nworkers = 1\n"}
    (new / "pyproject.toml").write_text("[tool.fdpass]\nworkers = 2\n")
    server = serve("app:app", "--lifespan", "off", files=settings, env={"PWD": str(current)}, workers=None)
    assert server.get()[1].split()[:2] == ["old", str(server.folder)]
    (tmp_path / "next").symlink_to("new")
    (tmp_path / "next").rename(current)
    server.kill_worker(int(server.get()[1].split()[2]))
    server.wait_status(all_ready(1))
    assert server.get()[1].split()[0] == "old"
    server.cli("reload")
    server.wait_status(all_ready(2, 2))
    assert server.get()[1].split()[:2] == ["new", str(new)]
