"""`main(listener)`: how long the worker waits for a plain one when it finishes."""

import asyncio
import contextlib
import socket
import threading
from types import SimpleNamespace

from fdpass.serve.worker.engines import Job, listener
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.request_count import RequestCount


class BusyMain:
    """A main that serves one connection, and then works until the test lets it accept again."""

    def __init__(self):
        self.may_accept = threading.Event()
        self.accepts_again = False

    def __call__(self, listener):
        sock, _ = listener.accept()
        sock.close()
        self.may_accept.wait(60)
        self.accepts_again = True
        with contextlib.suppress(OSError):
            listener.accept()


def test_finish_waits_for_a_plain_main_until_its_listener_has_reported_the_end(monkeypatch):
    """The time to clean up begins with accept's EINVAL, and not while main still works."""
    monkeypatch.setattr(listener, "_CLEAN_UP_SECONDS", 0)
    main = BusyMain()

    async def run():
        setup = SimpleNamespace(family=socket.AF_UNIX, address="")
        engine = listener.ListenerEngine(Job(main, RequestCount(), setup))
        await engine.start()
        ours, theirs = socket.socketpair()
        with theirs, contextlib.closing(engine._listener):
            engine.take(PassedSocket(ours.detach(), 0, lambda _: None))
            finish = asyncio.create_task(engine.finish(60, retiring=False))
            assert await asyncio.to_thread(theirs.recv, 1) == b""
            await engine._idle.wait()
            for _ in range(100):  # turns of the loop
                await asyncio.sleep(0)
            assert not finish.done()
            main.may_accept.set()
            await finish
            assert main.accepts_again

    asyncio.run(run())
