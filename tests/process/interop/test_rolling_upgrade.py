"""examples/fleet/rolling_upgrade.py, with a HAProxy that the test plays: the order of commands, and failures."""

import contextlib
import socketserver
import subprocess
import sys
import threading
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "examples" / "fleet" / "rolling_upgrade.py"
COLUMNS = ("pxname", "svname", "scur", "stot", "status", "check_status", "agent_status", "last_chk")
LIMIT = 60


class Haproxy(socketserver.ThreadingUnixStreamServer):
    """Answers as HAProxy's stats socket, by a table that its commands change. `orders` are the other commands.

    The first look at a server after `disable agent` finds an agent-check in progress. The first look after a drain
    finds a request; if not `ends`, all looks do.
    """

    daemon_threads = False

    def __init__(self, path):
        super().__init__(str(path), Handler)
        self.orders = []
        self.ends = True
        self.servers = {name: {"status": "UP", "scur": 0, "agent_status": "L7OK"} for name in ("one", "two")}
        self.after = {}  # what a server's row becomes once it was shown

    def obey(self, command):
        if command == "show stat":
            return self.table()
        self.orders.append(command)
        name = command.split("shop/")[1].split()[0]
        row = self.servers[name]
        if command.startswith("disable agent"):
            row["agent_status"], self.after[name] = "* L7OK", {"agent_status": "L7OK"}
        elif command.endswith("state drain"):
            row["status"], row["scur"] = "DRAIN", 1
            if self.ends:
                self.after[name] = {"scur": 0}
        elif command.endswith("state ready"):
            row["status"] = "UP"
        return ""

    def table(self):
        lines = ["# " + ",".join(COLUMNS) + ","]
        for name, row in [*self.servers.items(), ("BACKEND", {"status": "UP"})]:
            shown = {"pxname": "shop", "svname": name, "scur": 0, "stot": 7, "check_status": "L7OK", **row}
            lines.append(",".join(str(shown.get(column, "")) for column in COLUMNS) + ",")
            row.update(self.after.pop(name, {}))
        return "\n".join(lines) + "\n"


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        command = self.rfile.readline().decode().strip()
        self.wfile.write(self.server.obey(command).encode() + b"\n")


@pytest.fixture
def haproxy(tmp_path):
    with Haproxy(tmp_path / "admin") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        with contextlib.ExitStack() as closing:
            closing.callback(thread.join)
            closing.callback(server.shutdown)
            yield server


def upgrade(haproxy, *command, drain="30"):
    words = [sys.executable, PROGRAM, "--socket", haproxy.server_address, "--drain", drain, "--start", "0.3", "--"]
    return subprocess.run([*words, *command], capture_output=True, text=True, timeout=LIMIT)


def test_each_host_is_drained_restarted_and_ready_before_the_next(haproxy, tmp_path):
    done = upgrade(haproxy, "sh", "-c", f"echo {{}} >>{tmp_path}/restarted")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "restarted").read_text().split() == ["one", "two"]
    assert haproxy.orders == [
        order
        for name in ("one", "two")
        for order in (
            f"disable agent shop/{name}",
            f"set server shop/{name} state drain",
            f"enable agent shop/{name}",
            f"set server shop/{name} state ready",
        )
    ]


def test_after_a_failed_command_nothing_more_is_done(haproxy):
    done = upgrade(haproxy, "sh", "-c", "exit 3")
    assert done.returncode == 1
    assert "one stays in drain: " in done.stderr
    assert "exit status 3" in done.stderr
    assert "Traceback" not in done.stderr
    assert haproxy.orders[-1] == "set server shop/one state drain"


def test_a_host_that_does_not_serve_ends_the_upgrade(haproxy):
    haproxy.servers["one"] |= {"check_status": "L4CON", "last_chk": "refused"}
    done = upgrade(haproxy, "true")
    assert (done.returncode, done.stderr) == (1, "one does not serve: refused\n")
    assert haproxy.servers["one"]["status"] == "DRAIN"
    assert haproxy.servers["two"]["status"] == "UP"


def test_with_a_host_down_nothing_begins(haproxy):
    haproxy.servers["two"]["status"] = "DOWN"
    done = upgrade(haproxy, "true")
    assert (done.returncode, done.stderr) == (1, "not all hosts are up: two\n")
    assert haproxy.orders == []


def test_requests_that_do_not_end_delay_a_restart_for_so_long_and_are_told(haproxy):
    haproxy.ends = False
    done = upgrade(haproxy, "true", drain="0.3")
    assert done.returncode == 0
    assert "one: 1 requests or streams are left after 0.3 s; the restart ends them\n" in done.stdout


def test_without_a_haproxy_the_upgrade_ends_with_a_sentence(tmp_path):
    words = [sys.executable, PROGRAM, "--socket", tmp_path / "none", "--", "true"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT)
    told = f"HAProxy does not answer at {tmp_path}/none: No such file or directory\n"
    assert (done.returncode, done.stderr) == (1, told)
