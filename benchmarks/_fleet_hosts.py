"""A fleet on one machine: balancer and hosts are network namespaces, joined by a bridge in that of the balancer.

The addresses are those of examples/fleet/haproxy.cfg, since each fleet has a network of its own. The machine's own
namespace gets no interface: clients run in a thread that has entered the balancer's namespace. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from _fleet_namespaces import LIMIT, PATHS, Namespace, wait_until

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "fleet"
ADDRESSES = {"one": "10.0.0.11", "two": "10.0.0.12", "three": "10.0.0.13"}
BALANCER = "10.0.0.1"
PORT, DASHBOARD, AGENT = 8000, 9100, 9101


class Host(Namespace):
    """A host: its network, its processes, and what its application has executed.

    Args:
        name: Its name in haproxy.cfg.
        folder: For its control socket, its log, and the application's files.
        capacity: The number of connections at which the agent-check's weight is least.
        workers: The number of workers.
    """

    def __init__(self, name: str, folder: Path, capacity: int, workers: int) -> None:
        super().__init__(name)
        self.server, self.address, self.folder = name, ADDRESSES[name], folder
        self._capacity, self._workers = capacity, workers
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / f"log-{name}"

    def serve(self) -> None:
        """Start the server by the command of docs/fleet.md, and wait until it is ready."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, self.log.open("ab") as log:
            path = self.folder / f"notify-{self.server}"
            path.unlink(missing_ok=True)
            notify.bind(str(path))
            notify.settimeout(LIMIT)
            self.process = self.start(
                *(sys.executable, "-m", "fdpass", "serve", "_fleet_app:app", "--app-dir", ROOT / "benchmarks"),
                *("--workers", str(self._workers), "--bind", f"{self.address}:{PORT}", "--proxy-protocol"),
                *("--dashboard", f"{self.address}:{DASHBOARD}", "--graceful-timeout", "5"),
                *("--control", self.folder / f"control-{self.server}"),
                env={
                    **os.environ,
                    "FDPASS_DASHBOARD_AGENT_CHECK": f"{self.address}:{AGENT}",
                    "FDPASS_DASHBOARD_CAPACITY": str(self._capacity),
                    "FLEET_HOST": self.server,
                    "FLEET_FOLDER": str(self.folder),
                    "NOTIFY_SOCKET": str(path),
                },
                stdout=log,
                stderr=log,
            )
            while b"READY=1" not in notify.recv(4096):
                pass

    def stop(self) -> None:
        """Stop in order, as a service manager does."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(LIMIT)
        wait_until(lambda: not self.pids(), f"the end of all processes of {self.server}")

    def restart(self) -> None:
        self.stop()
        self.serve()

    def executed(self) -> list[str]:
        """The method, the query and the client's address of each request that the application has begun."""
        path = self.folder / f"executed-{self.server}"
        return path.read_text().splitlines() if path.exists() else []

    def remove(self) -> None:
        super().remove()
        if self.process is not None:
            self.process.wait(LIMIT)


class Fleet:
    """A balancer with HAProxy, and hosts.

    Args:
        folder: For all files.
        capacity: See `Host`.
        workers: See `Host`.
    """

    def __init__(self, folder: Path, capacity: int, workers: int, closing: contextlib.ExitStack) -> None:
        self.folder = folder
        self.balancer = Namespace("balancer")
        closing.callback(self.balancer.remove)
        self.balancer.ip("link", "set", "lo", "up")
        self.balancer.ip("link", "add", "name", "bridge", "type", "bridge")
        self.balancer.ip("addr", "add", f"{BALANCER}/24", "dev", "bridge")
        self.balancer.ip("link", "set", "bridge", "up")
        self.hosts = {}
        for name in ADDRESSES:
            host = self.hosts[name] = Host(name, folder, capacity, workers)
            closing.callback(host.remove)
            self._join(host)
        self.log = folder / "log-haproxy"
        self._haproxy: subprocess.Popen[bytes] | None = None
        closing.callback(self._end)
        self._example = rolling_upgrade()
        self.backend = self._example.Backend(str(folder / "admin.sock"), "shop")

    def _join(self, host: Host) -> None:
        port = f"port-{host.server}"
        self.balancer.ip(
            *("link", "add", "name", port, "type", "veth", "peer", "name", "eth0", "netns", host.name),
        )
        self.balancer.ip("link", "set", port, "master", "bridge", "up")
        host.ip("link", "set", "lo", "up")
        host.ip("link", "set", "eth0", "up")
        host.ip("addr", "add", f"{host.address}/24", "dev", "eth0")

    def balance(self, text: str) -> None:
        """Start HAProxy with a configuration, and wait until each host is up."""
        assert "/run/haproxy/admin.sock" in text
        path = self.folder / "haproxy.cfg"
        path.write_text(text.replace("/run/haproxy/admin.sock", self.backend.path))
        program = shutil.which("haproxy", path=PATHS)
        assert program is not None
        with self.log.open("ab") as log:
            self._haproxy = self.balancer.start(program, "-db", "-f", path, stdout=log, stderr=log)
        wait_until(self.all_up, "all hosts up in HAProxy's table")

    def all_up(self) -> bool:
        """Whether check and agent-check have found each host up: before them HAProxy only assumes it."""
        columns = ("status", "check_status", "agent_status")
        return {tuple(row[name] for name in columns) for row in self.rows().values()} == {("UP", "L7OK", "L7OK")}

    def rows(self) -> dict[str, dict[str, str]]:
        """HAProxy's table; nothing before HAProxy has started."""
        try:
            rows: dict[str, dict[str, str]] = self.backend.servers()
        except (ConnectionError, FileNotFoundError):
            return {}
        return rows

    def remove(self, host: Host) -> None:
        """Take a host out of the balancer by the commands of docs/fleet.md, and stop it."""
        for command in commands("disable agent", host):
            if command.endswith("state maint"):
                assert self.backend.wait(host.server, LIMIT, self._example.idle()), host.server
            self.backend.order(command)
        host.stop()

    def add(self, host: Host) -> None:
        """Start a host, and make it known to the balancer by the commands of docs/fleet.md."""
        host.serve()
        for command in commands("set server", host):
            if " addr " in command:
                self.backend.ask(command)  # answers what it has changed
            else:
                self.backend.order(command)
        wait_until(self.all_up, "all hosts up in HAProxy's table")

    def upgrade(self, host: Host) -> None:
        """What the example's program does for each host."""
        self._example.upgrade(self.backend, host.server, host.restart, LIMIT, LIMIT)

    def cut(self, host: Host) -> float:
        """End a host as a power failure does: first its link, so that its kernel says nothing, then its processes.

        Returns:
            A time on the monotonic clock at which the link is down.
        """
        self.balancer.ip("link", "set", f"port-{host.server}", "down")
        when = time.monotonic()
        host.kill()
        assert host.process is not None
        host.process.wait(LIMIT)
        return when

    def mend(self, host: Host) -> None:
        self.balancer.ip("link", "set", f"port-{host.server}", "up")

    def _end(self) -> None:
        if self._haproxy is not None:
            self._haproxy.terminate()
            self._haproxy.wait(LIMIT)


@contextmanager
def fleet(
    folder: Path, capacity: int = 1000, workers: int = 1, *, configuration: str = "", running: bool = True
) -> Iterator[Fleet]:
    """A fleet whose hosts and balancer serve; at the end nothing of it is left.

    Args:
        folder: For all files.
        capacity: See `Host`.
        workers: See `Host`.
        configuration: The text of HAProxy's configuration, if it is not that of the example.
        running: Whether to start servers and HAProxy.
    """
    with contextlib.ExitStack() as closing:
        made = Fleet(folder, capacity, workers, closing)
        if running:
            with ThreadPoolExecutor() as pool:
                for started in [pool.submit(host.serve) for host in made.hosts.values()]:
                    started.result()
            made.balance(configuration or (EXAMPLE / "haproxy.cfg").read_text())
        yield made


def commands(first: str, host: Host) -> list[str]:
    """The commands for HAProxy of the block of docs/fleet.md that begins with this command, for this host."""
    page = (ROOT / "docs" / "fleet.md").read_text(encoding="utf-8")
    (block,) = (
        text for text in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if text.startswith(f'echo "{first} ')
    )
    found = re.findall(r'^echo "(.*)" \| socat stdio /run/haproxy/admin.sock$', block, re.MULTILINE)
    assert len(found) == len(block.splitlines()), block
    return [command.replace("/four", f"/{host.server}").replace("10.0.0.14", host.address) for command in found]


def rolling_upgrade() -> ModuleType:
    """The example's program as a module."""
    import importlib.util  # noqa: PLC0415 - only here

    spec = importlib.util.spec_from_file_location("rolling_upgrade", EXAMPLE / "rolling_upgrade.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
