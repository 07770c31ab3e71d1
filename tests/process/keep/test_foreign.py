"""Programs that were not written for fdpass: systemd's own client, libsystemd, C, and Node.js."""

import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
STORE_STANDARD_INPUT = """
import os, socket
reading, writing = os.pipe()
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
    sock.connect(os.environ["NOTIFY_SOCKET"])
    socket.send_fds(sock, [b"FDSTORE=1\\nFDNAME=connection"], [0])
    socket.send_fds(sock, [b"BARRIER=1"], [writing])
os.close(writing)
os.read(reading, 1)
"""


def found(name):
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


def version(command):
    return int(subprocess.check_output([command, "--version"], text=True).split()[1])


def test_systemd_notify_reports_that_a_shell_script_is_ready(keeping):
    """It waits for its barrier: after it the state is known."""
    found("systemd-notify")
    script = "systemd-notify --ready --status='all set'; echo done; read line"
    keep = keeping(program=["sh", "-c", script])
    assert keep.line() == "done"
    assert keep.list()["program"] | {"command": [], "pid": 0} == {
        "command": [],
        "pid": 0,
        "starts": 1,
        "state": "ready",
        "status": "all set",
    }
    keep.tell("")
    assert keep.wait()[0] == 0


def test_systemd_notify_stores_a_descriptor_of_a_shell_script(keeping, tmp_path):
    if version(found("systemd-notify")) < 254:
        pytest.skip("systemd-notify --fd needs systemd 254")
    (tmp_path / "note").write_text("kept\n")
    script = (
        'if [ -n "$LISTEN_FDS" ]; then echo $LISTEN_FDNAMES; cat <&3; exit 0; fi; '
        f"systemd-notify --fd=4 --fdname=note 4<{tmp_path}/note; exit 1"
    )
    keep = keeping(program=["sh", "-c", script])
    assert [keep.line(), keep.line()] == ["note", "kept"]
    assert keep.wait()[0] == 0


def test_libsystemd_stores_descriptors(keeping, tmp_path):
    """sd_pid_notify_with_fds, called by another Python program."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    peer = HERE.parent / "interop" / "notify_peer.py"
    script = f"{sys.executable} {peer} {tmp_path}/one {tmp_path}/two; echo $?; read line"
    keep = keeping(program=["sh", "-c", script])
    code = keep.line()
    if code == "77":
        pytest.skip("libsystemd is not installed")
    assert code == "0"
    while len(keep.names()) < 2:  # this peer sends no barrier
        pass
    assert keep.names() == ["kept", "kept"]


def test_a_program_in_c_keeps_its_connection_over_a_crash(keeping, tmp_path):
    """Its client connects before the crash, and is answered after it."""
    program = tmp_path / "store_in_c"
    subprocess.run([found("cc"), "-Wall", "-Werror", "-o", program, HERE / "store_in_c.c"], check=True, timeout=60)
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = reserved.getsockname()
    keep = keeping("--listen", f"web={address[0]}:{address[1]}", program=[program])
    assert keep.line().split()[2] == "web"
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(b"to C and back")
        assert "killed by SIGABRT" in keep.log("ended (")
        assert keep.line().split()[2] == "web:connection"
        assert client.makefile("rb").read() == b"to C and back"
    code, log = keep.wait()
    assert code == 0
    assert "closed" not in log  # nothing was left in the store


def test_a_program_in_node_keeps_its_connection_over_kill_9(keeping):
    """Node listens at descriptor 3. It sends no descriptors itself: a helper stores its standard input."""
    node = found("node")
    program = [node, HERE / "store_in_node.cjs", sys.executable, "-c", STORE_STANDARD_INPUT]
    keep = keeping("--listen", "web=127.0.0.1:0", program=program)
    pid, given = keep.started()
    assert given == ["web"]
    assert keep.line() == "listening"
    host, port = keep.list()["listeners"][0]["what"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(b"a question")
        assert keep.line() == "stored 0"
        assert keep.names() == ["connection"]
        _, given = keep.kill(pid)
        assert given == ["web", "connection"]
        assert client.makefile("rb").read() == b"node answers: a question"
    assert keep.stop(signal.SIGTERM)[0] == 0
