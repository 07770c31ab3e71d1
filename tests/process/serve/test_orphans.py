"""Processes that the application leaves behind, where the dispatcher gets them: as subreaper, as PID 1."""

import shutil
import subprocess
import sys

import pytest

SUBREAPER = """
import ctypes, os, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER, which exec leaves as it is
os.execv(sys.executable, [sys.executable, "-m", "fdpass", *sys.argv[1:]])
"""
LEAVES = """
    import subprocess
    from app import app as rest

    async def app(scope, receive, send):
        if scope["type"] == "http":
            subprocess.run(["sh", "-c", "(sleep 0.01) &"], check=True)  # the shell ends before its child
        await rest(scope, receive, send)
"""


def assert_reaps(server, main, tools):
    """It reaps the orphans of the application, and still learns how its workers end."""
    for _ in range(10):
        assert server.get()[0] == 200
    workers = server.workers()
    dispatcher, status = main, server.status()["server"]
    if status["pid"] != status["dispatcher"]:  # a keeper, which gets the orphans
        tools.wait_until(
            lambda: len(tools.descendants(main)) == 1,
            "its child is the dispatcher: ",
            lambda: tools.descendants(main),
        )
        (dispatcher,) = tools.descendants(main)
    tools.wait_until(
        lambda: len(tools.descendants(dispatcher)) == len(workers) == 2,
        "its children are its workers: ",
        lambda: tools.descendants(dispatcher),
    )
    killed = tools.descendants(dispatcher)[0]
    subprocess.run(["kill", "-9", str(killed)], check=True)
    assert "(killed by SIGKILL); another is started" in server.wait_log(" ended (")
    server.wait_status(lambda status: [each["state"] for each in status["workers"]] == ["ready", "ready"])


def test_a_dispatcher_that_is_a_subreaper_leaves_no_zombie(serve, tools):
    server = serve("leaves:app", files={"leaves.py": LEAVES}, launch=(sys.executable, "-c", SUBREAPER))
    assert_reaps(server, server.pid, tools)
    assert server.stop() == 0


@pytest.fixture
def namespace():
    """A command that runs another one as the first process of a new PID namespace."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if shutil.which("unshare") is None:
        pytest.skip("unshare(1) is not installed")
    done = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=60)
    if done.returncode:
        pytest.skip(f"no new PID namespace: {done.stderr.strip()}")
    return command


def test_a_dispatcher_that_is_the_first_process_of_a_container_leaves_no_zombie(serve, tools, namespace):
    server = serve("leaves:app", files={"leaves.py": LEAVES}, launch=(*namespace, sys.executable, "-m", "fdpass"))
    assert server.status()["server"]["pid"] == 1
    (main,) = tools.descendants(server.pid)
    assert_reaps(server, main, tools)
    server.cli("stop")
    assert server.wait_end() == 0
