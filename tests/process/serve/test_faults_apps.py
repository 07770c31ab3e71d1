"""Applications that fail, at start and in a request, hang, leak, or turn on their dispatcher."""

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


def test_an_application_that_fails_at_import_is_given_up_after_start_timeout_with_one_traceback(serve):
    server = serve(
        "broken:app", "--start-timeout", "3", files={"broken.py": "def f():\n    1 / 0\nf()\n"}, ready=False
    )
    assert server.process.wait(60) == 1
    log = server.log()
    assert log.count("Traceback") == 1
    assert log.count("in f\n") == 1
    assert "the application failed to start: ZeroDivisionError: division by zero" in log
    assert "site-packages" not in log
    assert "fdpass/serve/" not in log


def test_an_application_that_fails_is_retried_with_backoff_and_starts_once_it_is_mended(serve):
    server = serve("broken:app", files={"broken.py": "raise RuntimeError('not yet')"}, ready=False)
    server.wait_log("trying again in 0.2 s")
    (server.folder / "mended").write_text("from app import app\n")
    (server.folder / "mended").rename(server.folder / "broken.py")
    server.wait_heard("READY=1")
    assert server.get()[0] == 200
    assert server.log().count("RuntimeError: not yet\n") <= 2  # the sentence, and the traceback's last line


def test_an_application_that_is_not_there_is_not_retried(serve):
    server = serve("nowhere:app", ready=False)
    assert server.process.wait(60) == 1
    log = server.log()
    assert "there is no module 'nowhere'" in log
    assert "trying again" not in log
    assert "Traceback" not in log


def test_a_lifespan_that_raises_is_told_with_its_traceback_once(serve):
    broken = """
    async def app(scope, receive, send):
        await receive()
        raise LookupError("no database")
    """
    server = serve(
        "broken:app", "--lifespan", "on", "--start-timeout", "3", files={"broken.py": broken}, ready=False
    )
    assert server.process.wait(60) == 1
    log = server.log()
    assert "the application's lifespan startup failed" in log
    assert log.count("LookupError: no database") == 1
    assert log.count("Traceback") == 1


def test_a_lifespan_that_says_failed_is_told_with_its_words(serve):
    broken = """
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "the moon is wrong"})
    """
    server = serve("broken:app", "--start-timeout", "3", files={"broken.py": broken}, ready=False)
    assert server.process.wait(60) == 1
    assert "the moon is wrong" in server.log()


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
