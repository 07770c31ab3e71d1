"""How a worker exits: exit functions run, files are flushed, process pools end; and none of it takes too long."""

import time

import pytest

from ._reload_helpers import all_ready

APP = """
    import atexit, multiprocessing, os, threading, time
    from concurrent.futures import ProcessPoolExecutor

    buffered = open(f"buffered-{os.getpid()}", "w")
    buffered.write("all of it")
    hangs = os.environ.get("HANGS")

    @atexit.register
    def bye():
        with open("bye", "a") as file:
            file.write(f"{os.getpid()}\\n")
        if hangs == "exit":
            time.sleep(300)

    if hangs == "thread":
        threading.Thread(target=time.sleep, args=(300,), name="stubborn").start()

    def sleep():
        time.sleep(300)

    async def app(scope, receive, send):
        global pool
        fork = multiprocessing.get_context("fork")
        pool = ProcessPoolExecutor(1, mp_context=fork)
        found = [pool.submit(os.getpid).result()]
        child = fork.Process(target=sleep, daemon=True)
        child.start()
        body = f"{os.getpid()} {found[0]} {child.pid}".encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
"""


def served(serve, *flags, **env):
    server = serve("exits:app", "--workers", "1", "--lifespan", "off", *flags, files={"exits.py": APP}, env=env)
    return server, [int(pid) for pid in server.get()[1].split()]


@pytest.mark.parametrize("how", ["stop", "reload", "retire"])
def test_exit_functions_run_files_are_flushed_and_pools_end(serve, tools, how):
    server, (worker, *children) = served(serve)
    if how == "stop":
        assert server.stop() == 0
    else:
        server.cli(*(["reload"] if how == "reload" else ["workers", "retire", str(worker)]))
        server.wait_log(f"worker {worker} has retired")
        server.wait_status(all_ready(1))
    assert str(worker) in (server.folder / "bye").read_text().split()
    assert (server.folder / f"buffered-{worker}").read_text() == "all of it"
    tools.wait_until(lambda: not any(map(tools.alive, children)), "ended: ", lambda: children)
    assert "Traceback" not in server.log()
    assert "warning" not in server.log()


@pytest.mark.parametrize(
    ("hangs", "said"),
    [
        ("exit", "an exit function (atexit) of the application hangs: the worker exits without it"),
        ("thread", "the worker exits without waiting any longer for threads of the application: stubborn"),
    ],
)
def test_what_hangs_at_the_exit_holds_the_worker_for_the_graceful_time_at_most(serve, tools, hangs, said):
    server, (worker, *children) = served(serve, "--graceful-timeout", "1", HANGS=hangs)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 20
    assert said in server.log()
    assert f"worker {worker} has retired" in server.log()  # by itself: the dispatcher has not killed it
    assert (server.folder / "bye").read_text().split() == [str(worker)]
    tools.wait_until(lambda: not any(map(tools.alive, children)), "ended: ", lambda: children)
