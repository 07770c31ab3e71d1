"""The control socket, and the verbs that use it: each waits for the outcome, and its exit code says which."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

SERVER_KEYS = {"pid", "version", "generation", "stopping", "listeners", "app"}
CONNECTION_KEYS = {"accepted", "live", "handed", "finished", "rehanded", "lost"}
WORKER_KEYS = {"pid", "generation", "state", "connections", "requests", "handled", "lag_ms", "rss"}


def test_status_is_a_table_or_json_with_the_documented_keys(serve):
    server = serve()
    assert server.get()[0] == 200
    server.wait_connections(finished=1)
    server.wait_status(lambda status: any(worker["handled"] for worker in status["workers"]))
    told = json.loads(server.cli("status", "--json").stdout)
    assert set(told["server"]) >= SERVER_KEYS
    assert set(told["connections"]) >= CONNECTION_KEYS
    assert [set(worker) >= WORKER_KEYS for worker in told["workers"]] == [True, True]
    assert told["server"]["pid"] == server.pid
    assert told["server"]["generation"] == 1
    assert sum(worker["handled"] for worker in told["workers"]) == 1
    assert all(worker["rss"] > 2**20 for worker in told["workers"])
    table = server.cli("status").stdout
    assert f"app:app at {told['server']['listeners'][0]}" in table
    assert "\nresponses    2xx 1\nconnections  1 accepted, 1 handed, 1 finished\n" in table
    for worker in told["workers"]:
        assert str(worker["pid"]) in table
    assert table.count("ready") == 2


def test_scale_waits_for_the_workers_and_refuses_an_impossible_number(serve):
    server = serve("app:app", "--workers", "1")
    (first,) = server.workers()
    assert server.cli("scale", "3").stdout == "3 workers\n"
    assert len(server.workers()) == 3
    assert first in server.workers()
    assert server.cli("scale", "1").stdout == "1 worker\n"
    assert len(server.workers()) == 1
    wrong = server.cli("scale", "1000000", check=False)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("fdpass scale: the number of workers must be from 1 to ")
    assert server.cli("scale", "0", check=False).returncode == 2


def test_retire_starts_a_worker_before_it_ends_the_old_one(serve):
    server = serve()
    first, second = server.workers()
    assert server.cli("workers", "retire", str(first)).stdout == f"worker {first} has retired\n"
    assert second in server.workers()
    assert len(server.workers()) == 2
    assert first not in server.workers()
    log = server.log()
    assert log.count("is ready") == 3
    assert log.rindex("is ready") < log.index(f"worker {first} has retired")
    wrong = server.cli("workers", "retire", str(first), check=False)
    assert (wrong.returncode, wrong.stderr) == (
        1,
        f"fdpass workers: no worker has the process ID {first}: fdpass status lists the workers\n",
    )


def test_stop_waits_until_the_server_has_ended(serve):
    server = serve("app:app", "--workers", "1")
    server.cli("stop")
    assert server.process.wait(0) == 0
    assert not os.path.exists(server.control)


def test_stop_fails_after_its_timeout_and_stop_now_cuts_requests(serve):
    server = serve("app:app", "--workers", "1")
    with server.connect() as sock:
        sock.sendall(b"GET /sse HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(1000)
        late = server.cli("stop", "--timeout", "0.2", check=False)
        assert late.returncode == 1
        assert "fdpass stop --now ends it at once" in late.stderr
        assert server.process.poll() is None
        server.cli("stop", "--now")
        assert server.process.poll() is not None


@pytest.mark.parametrize(
    "verb",
    [("status",), ("reload",), ("scale", "2"), ("stop",), ("workers", "retire", "1")],
    ids=lambda verb: verb[0],
)
def test_without_a_server_a_verb_fails_with_one_sentence(tmp_path, verb):
    stale = str(tmp_path / "stale")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(stale)
    for path in (str(tmp_path / "none"), stale):
        command = [sys.executable, "-m", "fdpass", *verb, "--control", path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            f"fdpass {verb[0]}: no server answers at {path}: "
            "start one, or give its control socket with --control (fdpass list shows all servers)\n"
        )


def test_each_of_two_servers_answers_at_its_own_control_socket(serve):
    first, second = serve("app:app", "--workers", "1"), serve("app:app", "--workers", "1")
    assert json.loads(first.cli("status", "--json").stdout)["server"]["pid"] == first.pid
    assert json.loads(second.cli("status", "--json").stdout)["server"]["pid"] == second.pid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_control_socket_refuses_another_user(serve):
    server = serve("app:app", "--workers", "1")
    os.chmod(server.folder, 0o755)
    assert os.stat(server.control).st_mode & 0o777 == 0o600
    script = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "os.chdir(sys.argv[1])\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: s.connect(sys.argv[2])\n"
        "except PermissionError: print('refused')\n"
        "else:\n"
        "    s.settimeout(60)\n"
        "    try:\n"
        '        s.send(b\'{"do": "stop"}\')\n'
        "        print('dropped' if not s.recv(9999) else 'served')\n"
        "    except ConnectionError: print('dropped')\n"
    )
    for mode, said in ((0o600, "refused"), (0o666, "dropped")):
        os.chmod(server.control, mode)
        command = [sys.executable, "-c", script, server.folder, os.path.basename(server.control)]
        assert subprocess.run(command, capture_output=True, text=True).stdout == f"{said}\n"
    assert server.get()[0] == 200


def test_the_server_survives_nonsense_at_the_control_socket(serve):
    server = serve("app:app", "--workers", "1")
    for nonsense in (
        b"{}",
        b"[]",
        b"\xff",
        b'{"do": "explode"}',
        b'{"do": "scale"}',
        b'{"do": "scale", "workers": []}',
    ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(60)
            sock.connect(server.control)
            sock.send(nonsense)
            try:
                sock.recv(9999)
            except ConnectionError:
                continue
    assert server.get()[0] == 200
    assert "Traceback" not in server.log()


def test_a_waiting_command_fails_when_the_server_ends(serve):
    server = serve("app:app", "--workers", "1")
    os.kill(server.workers()[0], signal.SIGSTOP)
    waiting = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "fdpass",
            "workers",
            "retire",
            str(server.workers()[0]),
            "--control",
            server.control,
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    with waiting:
        server.wait_log("is ready", 2)
        server.kill_main_processes()
        assert waiting.stderr.read() == "fdpass workers: the server ended before it answered\n"
        assert waiting.wait(60) == 1
