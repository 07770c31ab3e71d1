"""What a child that the application forks has of its worker: at most its own connection, and no signal handler."""

import json
import os
import signal

import pytest

APP = """
    import contextlib, json, multiprocessing, os, signal, socketserver, subprocess, sys, threading, time

    fork = multiprocessing.get_context("fork")

    def sleep():
        time.sleep(300)

    def tell(there):
        sockets = []
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # that of the listing
                sockets.append(os.readlink(f"/proc/self/fd/{number}"))
        there.send(sockets)
        sleep()

    def facts():
        here, there = fork.Pipe()
        children = [fork.Process(target=tell, args=(there,)), fork.Process(target=sleep)]
        for child in children:
            child.start()
        children[1].terminate()  # at once
        sockets = here.recv()
        children[0].terminate()
        for child in children:
            child.join(20)
        codes = [child.exitcode for child in children]
        program = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
        started = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        return {"codes": codes, "sockets": sockets, "interruptible": started.stdout.strip(), "pid": os.getpid()}

    def leave():
        if not os.fork():
            sys.exit(5)
        return {"status": os.waitstatus_to_exitcode(os.wait()[1])}

    def hold():
        child = fork.Process(target=sleep)
        child.start()
        return {"child": child.pid, "pid": os.getpid()}

    async def app(scope, receive, send):
        found = {"/facts": facts, "/leave": leave, "/hold": hold}[scope["path"]]()
        body = json.dumps(found).encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def wsgi(environ, start):
        start("200 OK", [])
        child = os.fork()
        if not child:
            if environ["PATH_INFO"] == "/file":
                return environ["wsgi.file_wrapper"](open(__file__, "rb"))
            if environ["PATH_INFO"] == "/stream":
                return (b"of the child" * 10000 for _ in range(2))
            if environ["PATH_INFO"] == "/upload":
                environ["wsgi.input"].read()
            return [b"of the child"]
        returned = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return [json.dumps({"returned": returned, **leave()}).encode()]

    async def stream(reader, writer):
        writer.write(json.dumps(leave()).encode())

    async def conn(conn):
        await conn.commit(b"", json.dumps(leave()).encode())

    def blocking(sock):
        child = os.fork()
        if child:
            returned = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            sock.sendall(json.dumps({"returned": returned, **leave()}).encode())

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            while line := self.rfile.readline():
                self.wfile.write(b"%d %d " % (os.getppid(), os.getpid()) + line)

    class Server(socketserver.ForkingMixIn, socketserver.TCPServer):
        pass

    def main(listener):
        server = Server(("", 0), Handler, bind_and_activate=False)
        server.socket.close()
        server.socket = listener
        server.serve_forever()

    def handle(sock):
        if os.fork():
            return
        with sock.makefile("rb") as lines:
            while line := lines.readline():
                sock.sendall(b"%d %d " % (os.getppid(), os.getpid()) + line)
        os._exit(0)
"""
FILES = {"forks.py": APP}


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_child_of_multiprocessing_ends_at_sigterm_and_its_worker_goes_on(serve, client, loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    server = serve("forks:app", "--workers", "1", "--lifespan", "off", "--loop", loop, files=FILES)
    one, other = client(server), client(server)
    assert other.send("/leave").answer()[0] == 200
    found = json.loads(one.send("/facts").answer()[1])
    assert (found["codes"], found["interruptible"]) == ([-signal.SIGTERM] * 2, "True")
    sockets = [each for each in found["sockets"] if each.startswith("socket:")]
    # The pipe to the parent; and with uvloop, the pair through which signals wake it.
    assert len(sockets) <= (4 if loop == "uvloop" else 2), found
    assert server.workers() == [found["pid"]]
    assert "retired" not in server.log()


@pytest.mark.parametrize("custody", ["on", "off"])
def test_a_child_of_multiprocessing_keeps_no_connection_open(serve, client, custody):
    server = serve("forks:app", "--workers", "1", "--lifespan", "off", "--custody", custody, files=FILES)
    one, idle = client(server), client(server)
    assert idle.send("/leave").answer()[0] == 200
    found = json.loads(one.send("/hold").answer()[1])
    try:
        one.send("/hold", "POST")
        os.kill(found["pid"], signal.SIGKILL)
        assert custody == "on" or idle.ended()
    finally:
        os.kill(found["child"], signal.SIGKILL)


@pytest.mark.parametrize("name", ["app", "wsgi", "stream", "conn", "blocking"])
def test_a_child_that_leaves_the_handler_sends_nothing_and_ends(serve, client, name):
    """By an exception; or, where the handler runs in a thread, also by a return."""
    server = serve(f"forks:{name}", "--workers", "1", "--lifespan", "off", files=FILES)
    if name in {"app", "wsgi"}:
        one = client(server)
        for _ in range(2):
            assert json.loads(one.send("/leave").answer()[1])["status"] == 5
        found = json.loads(one.send("/leave").answer()[1])
    else:
        found = json.loads(client(server).rest())
    assert found["status"] == 5
    assert found.get("returned", 0) == 0
    assert "the application failed" not in server.log()


def test_a_child_of_wsgi_that_would_wait_for_the_event_loop_ends(serve, client):
    server = serve("forks:wsgi", "--workers", "1", files=FILES)
    one = client(server)
    for path in "/file", "/stream":
        assert json.loads(one.send(path).answer()[1])["returned"] == 0
    one.send("/upload", "POST", content_length="2")
    assert json.loads(one.answer()[1])["returned"] == 0
    assert "the application failed" not in server.log()


@pytest.mark.parametrize("custody", ["on", "off"])
@pytest.mark.parametrize("name", ["main", "handle"])
def test_where_forking_is_the_way_of_serving_the_child_keeps_its_connection(serve, client, name, custody):
    server = serve(f"forks:{name}", "--workers", "1", "--custody", custody, "--loop", "asyncio", files=FILES)
    (worker,) = server.workers()
    pids = set()
    held = [client(server) for _ in range(3)]
    for _ in range(2):
        for number, one in enumerate(held):
            one.sock.sendall(b"%d\n" % number)
            parent, pid, line = one._file.readline().split()
            assert (int(parent), line) == (worker, b"%d" % number)
            pids.add(int(pid))
    assert len(pids) == 3
    server.wait_connections(live=3, finished=0)
    for one in held:
        one.close()
    server.wait_connections(live=0, finished=3)
    late = client(server)
    late.sock.sendall(b"late\n")
    assert late._file.readline().endswith(b" late\n")
    server.kill(signal.SIGTERM)
    late.sock.sendall(b"later\n")
    assert late._file.readline().endswith(b" later\n")  # a stop waits for the child
    late.close()
    assert server.wait_end() == 0
