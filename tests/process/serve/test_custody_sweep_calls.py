"""A worker killed at each system call that it makes for a request: its client fares as was promised."""

import re
import shutil
import subprocess
from collections import Counter

import pytest

CALL = re.compile(rb"^(?:\d+ +)?([a-z_0-9]+)\(", re.MULTILINE)
CASES = {
    "GET": ("GET", "/", None),
    "POST": ("POST", "/", b"data"),
    "GET-large": ("GET", "/large", None),
    "POST-large": ("POST", "/large", b"data"),
    "GET-fresh": ("GET", "/", None),
    "POST-fresh": ("POST", "/", b"data"),
}
"""Fresh: from the moment in which the worker gets the connection; else the second request of one."""


class Tracer:
    """strace, attached to a worker."""

    def __init__(self, pid, *flags):
        self.process = subprocess.Popen(
            ["strace", "-p", str(pid), *flags], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        line = self.process.stderr.readline()
        if b"attached" not in line:
            self.end()
            pytest.skip(f"strace may not attach to a worker: {line.decode().strip()}")

    def end(self):
        """Detach; what it has written is whole then."""
        self.process.terminate()
        self.process.wait()
        self.process.stderr.close()


@pytest.fixture
def calls(kept, client, tmp_path):
    """``calls(server, case)``: a worker's system calls for such a request, each with its number of its kind."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")

    def found(server, case):
        method, path, body = CASES[case]
        one = client(server)
        (pid,) = {one.ask().told()["pid"]}
        tracer = Tracer(pid, "-o", str(tmp_path / "trace"))
        try:
            asked = client(server) if "fresh" in case else one
            asked.ask(path, "trace.", method, body).answer()
        finally:
            tracer.end()
        asked.close()
        one.close()
        text = (tmp_path / "trace").read_bytes()
        names = [name.decode() for name in CALL.findall(text)]
        numbers = Counter()
        every = []
        for name in names:
            numbers[name] += 1
            every.append((name, numbers[name]))
        return every

    return found


def outcome(one, token, path):
    """What the client got."""
    try:
        status, body = one.answer()
    except ConnectionResetError:
        return "cut"
    except EOFError:
        return "ended"
    if status == 200:
        assert body == (token * 200_000)[:200_000] if path == "/large" else f'"token": "{token}"' in body
        return "whole"
    assert status == 502
    assert one.ended()
    return "502"


def killed_at(server, client, case, call):
    """One request, and the worker killed at this call of it; returns the outcome."""
    method, path, body = CASES[case]
    name, number = call
    token = f"{case}.{name}.{number}."
    one = client(server)
    pid = one.ask().told()["pid"]
    kill = f"inject={name}:signal=KILL:when={number}"
    tracer = Tracer(pid, "-e", f"trace={name}", "-e", kill, "-o", "/dev/null")
    asked = client(server) if "fresh" in case else one
    try:
        found = outcome(asked.ask(path, token, method, body), token, path)
    finally:
        tracer.end()
    executed = [attempt for what, attempt, _ in server.executed() if what == token]
    if found == "whole":
        assert asked.ask(token="after").told()["token"] == "after"  # and the connection goes on
    if method == "POST":
        assert len(executed) <= 1
        assert found != "whole" or len(executed) == 1
    assert found in ({"whole", "cut"} if method == "GET" else {"whole", "502", "cut"}), (call, found)
    one.close()
    asked.close()
    return found


def sweep(server, client, case, every):
    outcomes = Counter(killed_at(server, client, case, call) for call in every)
    deaths = server.log().count("killed by SIGKILL")
    assert deaths >= len(every) / 3, (deaths, every)  # calls of a heartbeat fall where they fall
    books = server.wait_connections(live=0)["connections"]
    assert books["answered_502"] == outcomes["502"]
    assert books["cut"] == outcomes["cut"]
    return outcomes


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_worker_killed_at_some_calls_of_a_request_leaves_no_wrong_outcome(kept, client, calls, loop):
    server = kept("--workers", "1", "--spare", "1", "--loop", loop)
    case = {"asyncio": "POST-fresh", "uvloop": "GET-large"}[loop]
    every = calls(server, case)
    moves = {"send", "sendto", "sendmsg", "write", "writev", "recvfrom", "read"}
    central = [call for call in every if call[0] in moves]
    sweep(server, client, case, sorted({*every[:: max(1, len(every) // 8)], *central[:6]}))


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_worker_killed_at_any_call_of_a_request_leaves_no_wrong_outcome(kept, client, calls, loop, case):
    server = kept("--workers", "1", "--spare", "1", "--loop", loop)
    every = calls(server, case)
    behind = {(name, number + 1) for name, number in Counter(name for name, _ in every).items()}
    outcomes = sweep(server, client, case, [*every, *sorted(behind)])
    assert outcomes["whole"]
