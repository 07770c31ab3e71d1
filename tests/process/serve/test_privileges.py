"""A server gives up the rights of root after binding, and workers inherit no other descriptors."""

import contextlib
import os
import pwd
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ._keeper_here import needs_keeper
from .conftest import open_files

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
NOBODY = pwd.getpwnam("nobody")
APP = """
    import os

    async def app(scope, receive, send):
        body = f"{os.getresuid()} {os.getresgid()} {os.getgroups()}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
"""


def identities(pid):
    """The user and group numbers of a process: real, effective, saved and of files."""
    text = Path(f"/proc/{pid}/status").read_text()
    return {
        name: set(map(int, re.search(rf"^{name}:(.*)$", text, re.MULTILINE)[1].split())) for name in ("Uid", "Gid")
    }


@pytest.fixture
def tmp_path():
    """A folder that other users can reach: pytest's are its own alone."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def launch(monkeypatch):
    """``fdpass`` with an interpreter that any user can start: this one may be in somebody's home."""
    packages = [path for path in sys.path if path and not path.startswith(sys.base_prefix)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(packages))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        with contextlib.suppress(OSError):
            command = [python, "-c", "import fdpass.serve.worker.engines.asgi"]
            if subprocess.run(command, user="nobody", stderr=subprocess.DEVNULL, cwd="/").returncode == 0:
                return python, "-m", "fdpass"
    pytest.skip("no interpreter here can be started by another user")


@root
def test_dispatcher_and_workers_switch_to_the_user_after_binding(serve, tmp_path, launch):
    path, log, pidfile = tmp_path / "s", tmp_path / "access", tmp_path / "pid"
    flags = ("--workers", "1", "--user", "nobody", "--access-log", str(log), "--pidfile", str(pidfile))
    # A port below 1024, which only root can bind; and a socket file in a folder that is root's.
    with socket.socket() as probe:
        port = next(port for port in range(1000, 600, -1) if probe.connect_ex(("127.0.0.1", port)))
    server = serve(
        "app:app", *flags, files={"app.py": APP}, bind=[f"127.0.0.1:{port}", f"unix:{path}"], launch=launch
    )
    uid, gid = NOBODY.pw_uid, NOBODY.pw_gid
    for pid in (server.pid, server.dispatcher, *server.workers()):
        assert identities(pid) == {"Uid": {uid}, "Gid": {gid}}
    assert str((uid, uid, uid)) in server.get()[1]
    assert b"200 OK" in server.exchange(b"GET / HTTP/1.0\r\n\r\n", str(path))
    for file in (server.control, path, log, pidfile):
        assert (os.stat(file).st_uid, os.stat(file).st_gid) == (uid, gid)
    assert server.cli("status", "--json").returncode == 0  # root may ask
    os.kill(server.workers()[0], 9)
    server.wait_log("is ready", 2)  # another can be started without root's rights
    assert identities(server.workers()[0])["Uid"] == {uid}
    assert server.cli("reload").returncode == 0
    assert server.stop() == 0


@root
def test_user_and_group_may_be_numbers_without_a_name(serve, launch):
    flags = ("--workers", "1", "--user", "54321", "--group", "54322")
    server = serve("app:app", *flags, files={"app.py": APP}, launch=launch)
    assert server.get()[1] == f"{(54321,) * 3} {(54322,) * 3} [54322]"
    assert server.stop() == 0


def test_workers_inherit_their_channel_ledger_and_standard_streams_alone(serve, tmp_path):
    opened = os.open(tmp_path / "secret", os.O_CREAT | os.O_RDWR)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        os.set_inheritable(opened, True)
        os.set_inheritable(theirs.fileno(), True)
        try:
            server = serve("app:app", "--workers", "1", "--loop", "asyncio", pass_fds=[opened, theirs.fileno()])
            assert os.path.exists(f"/proc/{server.pid}/fd/{opened}")  # the dispatcher did inherit it
            (pid,) = server.workers()
            held = open_files(pid)
            mine = {os.readlink(f"/proc/self/fd/{number}") for number in (opened, theirs.fileno(), ours.fileno())}
            assert not mine & set(held.values())
            listeners = set(open_files(server.pid).values())
            shared = {target for target in held.values() if target.startswith("socket:")} & listeners
            assert len(shared) == 1  # the dispatcher keeps the worker's end of the channel
            assert held.pop("0") == "/dev/null"
            assert {held.pop("1"), held.pop("2")} == {str(server.output)}
            kinds = sorted(target.split(":")[0].split(" ")[0] for target in held.values())
            # The channel, asyncio's two ends of a pair to wake itself, and its epoll.
            assert kinds.count("socket") == 3
            assert set(kinds) <= {"socket", "anon_inode"} | {kind for kind in kinds if kind.startswith("/memfd")}
        finally:
            os.close(opened)


@root
@needs_keeper
def test_keeper_and_dispatchers_are_the_users_too(serve, tmp_path, launch):
    path = tmp_path / "s"
    bind = ["127.0.0.1:0", f"unix:{path}"]
    server = serve("app:app", "--keeper", "on", "--user", "nobody", "--pidfile", "pid", bind=bind, launch=launch)
    uid = NOBODY.pw_uid
    for _ in range(2):
        for pid in (server.pid, server.status()["server"]["dispatcher"], *server.workers()):
            assert identities(pid)["Uid"] == {uid}
        server.kill_dispatcher()
    server.kill_worker(server.workers()[0])
    server.wait_log("is ready", 3)
    assert server.get()[0] == 200
    assert server.stop() == 0
