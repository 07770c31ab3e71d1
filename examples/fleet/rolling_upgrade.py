"""Upgrade all hosts behind HAProxy, one at a time: drain a host, restart it, and wait until it serves.

    python rolling_upgrade.py --backend shop -- ssh {} sudo systemctl restart fdpass

`{}` in the command is replaced by the server's name in haproxy.cfg. The command must not end before the host
serves the new version: `systemctl restart` waits with Type=notify. At the first failure the program ends: the
other hosts keep the version that they have, and the failed one stays in drain.
"""

from __future__ import annotations

import argparse
import csv
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

LOOK_AGAIN = 0.1  # seconds between two looks at HAProxy's table of servers
LIMIT = 10.0  # seconds for one answer of HAProxy


class Backend:
    """The servers of one backend, by HAProxy's stats socket.

    Args:
        path: The stats socket; it needs "level admin".
        name: The backend in haproxy.cfg.
    """

    def __init__(self, path: str, name: str) -> None:
        self.path, self.name = path, name

    def ask(self, command: str) -> str:
        """Give HAProxy one command, and return its answer."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(LIMIT)
            sock.connect(self.path)
            sock.sendall(command.encode() + b"\n")
            with sock.makefile("rb") as stream:
                return stream.read().decode().strip()

    def order(self, command: str) -> None:
        """Give HAProxy one command that changes a server. HAProxy answers nothing if it has obeyed."""
        if answer := self.ask(command):
            raise SystemExit(f"HAProxy answered {command!r}: {answer}")

    def servers(self) -> dict[str, dict[str, str]]:
        """A row of HAProxy's statistics for each server that is not in maintenance.

        Counts are sums: other backends have the same hosts, by the same names.
        """
        rows = list(csv.DictReader(self.ask("show stat").removeprefix("# ").splitlines()))
        found = {row["svname"]: row for row in rows if row["pxname"] == self.name and row["svname"] != "BACKEND"}
        for name, row in found.items():
            for count in ("scur", "stot"):
                row[count] = str(sum(int(each[count]) for each in rows if each["svname"] == name))
        return {name: row for name, row in found.items() if not row["status"].startswith("MAINT")}

    def wait(self, server: str, seconds: float, done: Callable[[dict[str, str]], bool]) -> bool:
        """Wait until the row of a server is as wanted; False if that takes longer than `seconds`."""
        end = time.monotonic() + seconds
        while not done(self.servers()[server]):
            if time.monotonic() > end:
                return False
            time.sleep(LOOK_AGAIN)
        return True


def idle() -> Callable[[dict[str, str]], bool]:
    """Whether a server has no request now, and has got none since the last look."""
    last = ""

    def look(row: dict[str, str]) -> bool:
        nonlocal last
        before, last = last, row["stot"]
        return row["scur"] == "0" and last == before

    return look


def upgrade(backend: Backend, server: str, restart: Callable[[], object], drain: float, start: float) -> None:
    """Upgrade one host, for which `restart` returns when it serves again."""
    where = f"{backend.name}/{server}"
    # An agent-check that says "ready" would end the drain. HAProxy marks one that is in progress by "* ".
    backend.order(f"disable agent {where}")
    if not backend.wait(server, start, lambda row: not row["agent_status"].startswith("* ")):
        raise SystemExit(f"{server}: the agent-check does not end")
    backend.order(f"set server {where} state drain")
    if not backend.wait(server, drain, idle()):
        left = backend.servers()[server]["scur"]
        print(
            f"{server}: {left} requests or streams are left after {drain:g} s; the restart ends them", flush=True
        )
    print(f"{server}: drained; restarting", flush=True)
    try:
        restart()
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{server} stays in drain: {error}") from None
    if not backend.wait(server, start, lambda row: row["check_status"] == "L7OK"):
        raise SystemExit(f"{server} does not serve: {backend.servers()[server]['last_chk']}")
    backend.order(f"enable agent {where}")
    backend.order(f"set server {where} state ready")
    if not backend.wait(server, start, lambda row: row["status"] == "UP"):
        raise SystemExit(f"{server} is {backend.servers()[server]['status']}")
    print(f"{server}: serves", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Upgrade all hosts behind HAProxy, one at a time.")
    parser.add_argument("--socket", default="/run/haproxy/admin.sock", help="HAProxy's stats socket, level admin")
    parser.add_argument("--backend", default="shop", help="the backend in haproxy.cfg")
    parser.add_argument(
        "--drain", type=float, default=30, help="seconds for requests and streams to end (default 30)"
    )
    parser.add_argument(
        "--start", type=float, default=60, help="seconds until HAProxy sees a restarted host as up (default 60)"
    )
    parser.add_argument(
        "command", nargs="+", help="after --: restarts the host {}, a server's name in haproxy.cfg"
    )
    arguments = parser.parse_args()
    try:
        upgrade_all(Backend(arguments.socket, arguments.backend), arguments)
    except OSError as error:
        sys.exit(f"HAProxy does not answer at {arguments.socket}: {error.strerror or error}")


def upgrade_all(backend: Backend, arguments: argparse.Namespace) -> None:
    """Upgrade all hosts of a backend. The arguments are those of the command line."""
    servers = backend.servers()
    if not servers:
        sys.exit(f"HAProxy has no server in a backend {arguments.backend!r}")
    if down := [name for name, row in servers.items() if row["status"] != "UP"]:
        sys.exit(f"not all hosts are up: {', '.join(down)}")
    for server in servers:
        command = [word.replace("{}", server) for word in arguments.command]
        upgrade(backend, server, partial(subprocess.run, command, check=True), arguments.drain, arguments.start)


if __name__ == "__main__":
    main()
