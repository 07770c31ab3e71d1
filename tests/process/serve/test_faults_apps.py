"""Applications that fail, at start and in a request, hang, leak, or turn on their dispatcher."""

import pytest

HANGS = """
import time
from app import app as rest

def stuck_in_here():
    while True:
        time.sleep(0.05)

async def app(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/hang":
        stuck_in_here()
    await rest(scope, receive, send)
"""
DOES = """
import os
from app import app as rest

kept = []

def channel():
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            if os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                import socket
                with socket.socket(fileno=os.dup(number)) as sock:
                    if sock.family == socket.AF_UNIX and sock.type == socket.SOCK_SEQPACKET:
                        return number
        except OSError:
            pass

async def app(scope, receive, send):
    if scope["type"] == "http" and scope["path"].startswith("/do/"):
        exec(bytes.fromhex(scope["path"][4:]).decode(), globals())
        scope = {**scope, "path": "/"}
    await rest(scope, receive, send)
"""
"""/do/CODE: run this code, in hexadecimal, in the worker; then the usual."""


def do(code):
    """A path."""
    return "/do/" + code.encode().hex()


def both_ready_without(*pids):
    """Whether two workers are ready, and none of these."""
    return lambda status: (
        len(status["workers"]) == 2
        and all(each["state"] == "ready" and each["pid"] not in pids for each in status["workers"])
    )


def test_a_worker_whose_loop_is_blocked_is_shown_killed_and_replaced_while_others_serve(serve, client):
    server = serve("hangs:app", "--hang-timeout", "1", files={"hangs.py": HANGS})
    blocked = client(server).send("/hang", "POST")
    server.wait_status(lambda status: any(each["lag_ms"] > 500 for each in status["workers"]))
    served = {int(server.get()[1]) for _ in range(10)}
    (hung,) = set(server.workers()) - served
    assert len(served) == 1
    log = server.wait_log(f"worker {hung} ended")
    assert "its event loop has not run" in log
    assert "--hang-timeout" in log
    assert "in stuck_in_here" in log
    assert blocked.failed()
    server.wait_status(both_ready_without(hung))
    server.wait_connections(accepted=11, live=0)


LIFESPAN = """
    async def app(scope, receive, send):
        await receive()
        {}
"""


@pytest.mark.parametrize(
    ("flags", "code", "sentence", "line"),
    [
        ((), "def f():\n    1 / 0\nf()\n", "the application failed to start: ZeroDivisionError", "in f\n"),
        ((), "def f(:\n", "the application failed to start: SyntaxError", "def f(:"),
        ((), "import shop.prices\n", "the application failed to start: ModuleNotFoundError", "import shop.prices"),
        (
            ("--lifespan", "on"),
            LIFESPAN.format("raise LookupError('no database')"),
            "the application's lifespan startup failed",
            "LookupError: no database",
        ),
    ],
    ids=["import", "syntax", "missing module", "lifespan"],
)
def test_a_first_start_that_fails_ends_the_server_at_once_with_one_traceback(serve, flags, code, sentence, line):
    server = serve("broken:app", *flags, "--workers", "4", files={"broken.py": code}, ready=False)
    assert server.process.wait(60) == 1
    log = server.log()
    assert log.count(sentence) == 1
    assert log.count(line) == 1
    assert log.count("Traceback") <= 1  # none if no frame is the application's
    assert "trying again" not in log
    if not flags:  # else uvicorn calls the lifespan, through fdpass
        assert "site-packages" not in log
        assert "fdpass/serve/" not in log


@pytest.mark.parametrize(
    ("app", "files", "sentence"),
    [
        ("nowhere:app", {}, "there is no module 'nowhere'"),
        ("app:nothing", {}, "has no 'nothing'"),
        ("dies:app", {"dies.py": "import os; os.kill(os.getpid(), 9)"}, "before it was ready (killed by SIGKILL)"),
        (
            "broken:app",
            {
                "broken.py": LIFESPAN.format(
                    "await send({'type': 'lifespan.startup.failed', 'message': 'no moon'})"
                )
            },
            "no moon",
        ),
    ],
    ids=["module", "function", "killed", "lifespan says failed"],
)
def test_a_first_start_that_fails_without_an_exception_is_told_in_one_sentence(serve, app, files, sentence):
    server = serve(app, files=files, ready=False)
    assert server.process.wait(60) == 1
    log = server.log()
    assert log.count(sentence) == 1
    assert "trying again" not in log
    assert "Traceback" not in log


ONE_FAILS = """
import os, time

async def app(scope, receive, send):
    await receive()
    try:
        os.close(os.open("first", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        while not os.path.exists("one is ready"):
            time.sleep(0.01)
        raise LookupError("no database")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
    os.close(os.open("shut", os.O_CREAT))
"""


def test_workers_are_retried_and_ended_cleanly_once_one_of_the_first_has_started(serve):
    server = serve("one:app", "--lifespan", "on", files={"one.py": ONE_FAILS}, ready=False)
    server.wait_log("is ready")
    (server.folder / "one is ready").touch()
    log = server.wait_log("trying again in 0.2 s")
    assert log.count("LookupError: no database") == 1  # in the first traceback
    assert log.count("is ready") == 1
    assert server.stop() == 0
    assert (server.folder / "shut").exists()


def test_an_application_that_fails_later_is_retried_with_backoff_and_starts_once_it_is_mended(serve):
    server = serve("later:app", "--workers", "1", files={"later.py": "from app import app\n"})
    (server.folder / "broken").write_text("raise RuntimeError('not now')")
    (server.folder / "broken").rename(server.folder / "later.py")
    server.kill_worker(*server.workers())
    server.wait_log("trying again in 0.2 s")
    (server.folder / "mended").write_text("from app import app\n")
    (server.folder / "mended").rename(server.folder / "later.py")
    server.wait_log("is ready", 2)
    assert server.get()[0] == 200
    assert server.log().count("RuntimeError: not now\n") <= 2  # the sentence, and the traceback's last line


def test_an_application_that_exits_in_a_request_is_replaced_and_others_keep_their_connections(serve, client):
    server = serve("does:app", files={"does.py": DOES})
    ours, theirs = client(server).stream().held(), client(server).stream().held()
    assert client(server).send(do("os._exit(3)"), "POST").failed()
    log = server.wait_log("(exit code 3)")
    (ended,) = (one for one in (ours, theirs) if f"worker {one.worker} ended" in log)
    (other,) = {ours, theirs} - {ended}
    assert ended.ended()
    server.wait_status(both_ready_without(ended.worker))
    server.wait_connections(accepted=3, live=1)
    assert server.get()[0] == 200
    assert other.worker in server.workers()


def test_an_application_that_raises_in_a_request_answers_500_and_serves_on(serve):
    server = serve("does:app", files={"does.py": DOES})
    before = server.workers()
    assert server.get(do("1 / 0"))[0] == 500
    assert server.get()[0] == 200
    assert server.workers() == before
    server.wait_connections(accepted=2, finished=2, lost=0)


def test_an_application_that_leaks_is_replaced_at_max_rss_new_before_old(serve, client):
    server = serve("does:app", "--max-rss", "200M", files={"does.py": DOES})
    leaky = client(server).send(do("kept.append(b'x' * 300_000_000)"), connection="close")
    pid = leaky.answered()
    log = server.wait_log(f"worker {pid} has retired")
    told = log.index(f"worker {pid} has")
    assert "(--max-rss): it is replaced" in log[told:]
    assert told < log.index("is ready", told) < log.index(f"worker {pid} has retired")
    server.wait_status(both_ready_without(pid))
    assert leaky.ended()
    server.wait_connections(accepted=1, finished=1, live=0, lost=0)


NONSENSE = [
    "b'garbage'",
    "bytes(20000)",
    "message(b'')",
    "message(b'Z')",
    "message(b'F\\x01')",  # ends within a number
    "message(b'F' + b'\\xff' * 4)",  # the end of a connection that is not there
    "message(b'F' + bytes(200))",  # one connection ends fifty times
    "message(b'A' + bytes(4))",  # it accepted, without a turn
    "message(b'X' + b'[' * 60000)",  # JSON, deeper than any parser goes
    "message(b'Xnull')",
]
WRITE = """
import signal
from fdpass._framing import header
message = lambda data: header(0, 0, 0, len(data), 0) + data
os.write(channel(), {})
signal.pause()
"""


def test_a_worker_that_sends_nonsense_to_its_dispatcher_is_killed_and_replaced(serve, client):
    server = serve("does:app", files={"does.py": DOES})
    for number, data in enumerate(NONSENSE):
        assert client(server).send(do(WRITE.format(data)), "POST").failed(), data
        server.wait_log("is killed: ", number + 1)
    server.wait_status(both_ready_without())
    server.wait_connections(accepted=len(NONSENSE), live=0)
    assert server.get()[0] == 200
    assert "Traceback" not in server.log()


def test_a_worker_that_never_reads_its_channel_is_killed_and_what_waits_there_is_served(serve, client):
    server = serve("does:app", files={"does.py": DOES})
    code = "import asyncio; asyncio.get_running_loop().remove_reader(channel())"
    deaf = client(server).send(do(code), connection="close").answered()
    assert all(one.answered() != deaf for one in [client(server).send(connection="close") for _ in range(20)])
    assert f"worker {deaf} does not read its channel" in server.log()
    server.wait_status(both_ready_without(deaf))
    server.wait_connections(accepted=21, finished=21, live=0, lost=0)
