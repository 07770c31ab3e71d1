"""A worker killed at each of its stores into a slot: the client gets one of the promised outcomes."""

import contextlib
import os
from collections import Counter
from functools import partial

import pytest

from fdpass.serve.shared import slots

BASE, BUFFER = str(slots.BASE), str(slots.BUFFER)
HOOK = """
import os, sys

class KillingSlot:
    '''The words of a slot. At the store with a certain number it kills its process, before or after the store.'''

    def __init__(self, words, last, behind):
        self.words, self.last, self.behind, self.count = words, last, behind, 0

    def __getitem__(self, index):
        return self.words[index]

    def __setitem__(self, index, value):
        self.count += 1
        if self.count == self.last and not self.behind:
            os.kill(os.getpid(), 9)
        self.words[index] = value
        if self.count == self.last:
            os.kill(os.getpid(), 9)
        if not self.last:
            with open("stores", "a") as file:
                file.write(f"{index} ")

def kept(real):
    def made(keeper, passed, words, *more, **options):
        try:
            os.rename("kill", "killing")
        except FileNotFoundError:
            return real(keeper, passed, words, *more, **options)
        with open("killing") as file:
            last, behind = map(int, file.read().split())
        return real(keeper, passed, KillingSlot(words, last, behind), *more, **options)
    return made

if "fdpass.serve.worker" in sys.orig_argv:
    from fdpass.serve.worker.engines import asgi_custody
    asgi_custody.HttpCustody = kept(asgi_custody.HttpCustody)
"""
"""``sitecustomize``: the next connection is watched once there is a file ``kill``, with a number of a store (0 for
none: they are written to the file ``stores``), and 1 if the store shall happen."""

CASES = {
    "GET": ("GET", "/", None),
    "POST": ("POST", "/", b"data"),
    "GET-large": ("GET", "/large", None),
    "POST-large": ("POST", "/large", b"data"),
}


@pytest.fixture
def watched(kept, client, tmp_path):
    """``watched(loop, unix)``: a server whose workers have the hook; and what connects to it."""

    def start(loop, unix=False):
        (tmp_path / "hook").mkdir()
        (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
        path = str(tmp_path / "unix")
        packages = filter(None, [str(tmp_path / "hook"), os.environ.get("PYTHONPATH")])
        server = kept(
            *("--workers", "1", "--spare", "1", "--loop", loop),
            env={"PYTHONPATH": os.pathsep.join(packages)},
            bind=[f"unix:{path}" if unix else "127.0.0.1:0"],
        )
        return server, partial(client, server, address=path if unix else server.address)

    return start


def told_to(server, number, behind):
    """Let the next connection's worker die at this store."""
    (server.folder / "new").write_text(f"{number} {int(behind)}")
    os.rename(server.folder / "new", server.folder / "kill")


def outcome(one, token, path):
    """What the client got."""
    try:
        status, body = one.answer()
    except (ConnectionResetError, BrokenPipeError):
        return "cut"
    except EOFError:  # a Unix socket knows no reset
        return "ended"
    if status == 200:
        right = (token * 200_000)[:200_000] if path == "/large" else f'"token": "{token}"'
        assert right in body
        return "whole"
    assert status == 502
    assert one.ended()
    return "502"


def exchange(tools, server, connect, case, token):
    """A connection and two requests over it, as far as that goes: the client, and their outcomes.

    The first request is there before the dispatcher accepts, so each connection meets the same stores.
    """
    method, path, body = CASES[case]
    one, outcomes = None, []
    for request in (f"{token}a.", f"{token}b."):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if one is None:
                with server.paused():
                    one = connect().ask(path, request, method, body)
            else:
                one.ask(path, request, method, body)
        outcomes.append(outcome(one, request, path))
        if outcomes[-1] != "whole":
            break
    return one, outcomes


def stores(tools, server, connect, case):
    """How many of them two requests take."""
    told_to(server, 0, 0)
    one, found = exchange(tools, server, connect, case, "first.")
    assert found == ["whole"] * 2

    def settled():
        seen = (server.folder / "stores").read_text().split()
        return seen.count(BASE) == 2 and seen[-1] == BUFFER and seen

    seen = tools.wait_until(settled, "both requests are over: ", server.log)
    one.close()
    return len(seen)


def sweep(tools, server, connect, case, step=1):
    """Kill a worker before and behind each store of two requests (or of every ``step``-th); outcomes, counted."""
    count = stores(tools, server, connect, case)
    outcomes = Counter()
    points = [(number, behind) for number in range(1, count + 1) for behind in (0, 1)]
    for number, behind in points[::step]:
        deaths = server.log().count("killed by SIGKILL")
        told_to(server, number, behind)
        token = f"{number}.{behind}."
        one, found = exchange(tools, server, connect, case, token)
        server.wait_log("killed by SIGKILL", deaths + 1)
        if found == ["whole"] * 2:
            assert one.ask(token="after").told()["token"] == "after"
        one.close()
        outcomes.update(found)
        check(server, case, token, found)
    books = server.wait_connections(live=0)["connections"]
    assert (books["answered_502"], books["cut"]) == (outcomes["502"], outcomes["cut"] + outcomes["ended"])
    return outcomes


def check(server, case, token, found):
    """Whether this is what was promised."""
    executed = Counter(what for what, *_ in server.executed() if what.startswith(token))
    allowed = {"whole", "cut"} if case.startswith("GET") else {"whole", "cut", "502"}
    assert set(found) <= allowed, (token, found)
    if case.startswith("POST"):
        assert set(executed.values()) <= {1}, (token, executed)
        whole = [name for name, what in zip("ab", found, strict=False) if what == "whole"]
        assert all(executed[f"{token}{name}."] == 1 for name in whole)


@pytest.mark.parametrize(("loop", "case", "step"), [("asyncio", "POST", 4), ("uvloop", "GET-large", 5)])
def test_a_worker_killed_at_some_stores_leaves_no_wrong_outcome(tools, watched, loop, case, step):
    server, connect = watched(loop)
    outcomes = sweep(tools, server, connect, case, step)
    assert outcomes["whole"]
    assert outcomes["cut"] == 0 or case == "GET-large"


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_worker_killed_at_any_store_leaves_no_wrong_outcome(tools, watched, loop, case):
    server, connect = watched(loop)
    assert sweep(tools, server, connect, case)["whole"]


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", ["GET", "POST"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_worker_killed_at_any_store_executes_no_post_twice_over_a_unix_socket(tools, watched, loop, case):
    server, connect = watched(loop, unix=True)
    for number in range(1, stores(tools, server, connect, case) + 1):
        told_to(server, number, number % 2)
        one, found = exchange(tools, server, connect, case, f"{number}.")
        one.close()
        assert set(found) <= {"whole", "502", "ended", "cut"}
        if case == "POST":
            executed = Counter(what for what, *_ in server.executed() if what.startswith(f"{number}."))
            assert set(executed.values()) <= {1}
    server.wait_connections(live=0)
