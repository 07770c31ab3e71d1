"""The server notifies the service manager, and the unit files in examples/deploy fit the server."""

import configparser
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fdpass.serve.shared.config import Config

DEPLOY = Path(__file__).parents[3] / "examples" / "deploy"


class _Unit(configparser.RawConfigParser):
    """A unit file: like an INI file, but each key keeps all its values."""

    def __init__(self, name):
        super().__init__(strict=False, interpolation=None, comment_prefixes=("#", ";"), delimiters=("=",))
        self.optionxform = str
        self.read_string((DEPLOY / name).read_text())


def test_the_manager_is_notified_of_start_scaling_reload_and_stop(serve):
    server = serve(ready=False)
    assert "STATUS=generation 1, 2 workers" in server.wait_heard("READY=1").split("\n")
    server.cli("scale", "1")
    server.wait_heard("STATUS=generation 1, 1 worker")
    server.cli("reload")
    (stamp,) = [
        line for line in server.wait_heard("RELOADING=1").split("\n") if line.startswith("MONOTONIC_USEC=")
    ]
    assert int(stamp.split("=")[1]) > 0
    assert "STATUS=generation 2, 1 worker" in server.wait_heard("READY=1").split("\n")
    assert server.stop() == 0
    server.wait_heard("STOPPING=1")


def test_a_refused_reload_ends_with_ready(serve):
    server = serve("app:app", "--workers", "1")
    (server.folder / "app.py").write_text("import missing_module")
    assert server.cli("reload", check=False).returncode == 1
    server.wait_heard("RELOADING=1")
    assert "STATUS=generation 1, 1 worker" in server.wait_heard("READY=1").split("\n")


def test_only_the_dispatcher_notifies_the_watchdog_as_often_as_it_asks(serve):
    text = """
        import os
        async def app(scope, receive, send):
            names = sorted(os.environ.keys() & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID"})
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": repr(names).encode()})
    """
    server = serve("app:app", "--workers", "1", files={"app.py": text}, env={"WATCHDOG_USEC": "200000"})
    for _ in range(3):
        server.wait_heard("WATCHDOG=1")
    assert server.get() == (200, "[]")
    os.kill(server.workers()[0], 9)
    for _ in range(3):
        server.wait_heard("WATCHDOG=1")


def test_the_service_unit_fits_the_servers_notifications_and_timeouts():
    unit = _Unit("fdpass.service")
    service = unit["Service"]
    assert service["Type"] == "notify-reload"  # RELOADING=1 with MONOTONIC_USEC, and SIGHUP, its default
    assert service["KillMode"] == "mixed"
    assert service["NotifyAccess"] == "main"  # of all processes only the keeper notifies
    assert service["OOMPolicy"] == "continue"  # else systemd stops the service when the kernel ends a worker
    program, verb, *arguments = shlex.split(service["ExecStart"])
    assert (Path(program).name, verb) == ("fdpass", "serve")
    told = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    assert told["--control"].startswith(f"/run/{service['RuntimeDirectory']}/")
    assert float(service["TimeoutStopSec"]) > float(told["--graceful-timeout"])
    assert float(service["TimeoutStartSec"]) > Config().start_timeout
    assert unit["Unit"]["Requires"] == "fdpass.socket"


def test_the_server_accepts_the_command_line_of_the_service_unit(tmp_path):
    _, *arguments = shlex.split(_Unit("fdpass.service")["Service"]["ExecStart"])
    package = tmp_path / "shop"
    package.mkdir()
    (package / "main.py").write_text("async def app(scope, receive, send): pass\n")
    command = [sys.executable, "-m", "fdpass", *arguments, "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith("shop.main:app (asgi): 4 workers")


def test_systemd_analyze_accepts_the_units(tmp_path):
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")
    for name in ("fdpass.service", "fdpass.socket"):
        text = (DEPLOY / name).read_text().replace("/srv/shop/.venv/bin/fdpass", sys.executable)
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in ("fdpass.service", "fdpass.socket")]
    version = int(subprocess.run([tool, "--version"], capture_output=True, text=True).stdout.split()[1])
    done = subprocess.run([tool, "verify", "--man=no", *paths], capture_output=True, text=True, timeout=60)
    ours = [line for line in done.stderr.splitlines() if "fdpass." in line]
    if version < 253:  # where notify-reload is not known yet
        ours = [line for line in ours if "notify-reload" not in line]
    assert ours == []
