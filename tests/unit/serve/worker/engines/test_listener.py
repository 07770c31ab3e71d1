"""`main(listener)`: how long a plain one is waited for at the end."""

import asyncio
import contextlib
import socket
import threading
from types import SimpleNamespace

from fdpass.serve.worker.engines import Job, listener
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.request_count import RequestCount


class Main:
    """Serves one connection, and then works on until it may accept again."""

    def __init__(self):
        self.go = threading.Event()
        self.accepts_again = False

    def __call__(self, listener):
        sock, _ = listener.accept()
        sock.close()
        self.go.wait(60)
        self.accepts_again = True
        with contextlib.suppress(OSError):
            listener.accept()


def test_a_plain_main_is_waited_for_until_it_has_heard_of_the_end(monkeypatch):
    """The time to clean up begins when its listener has said so, and not while it works on."""
    monkeypatch.setattr(listener, "_LAST_SECONDS", 0)
    main = Main()

    async def run():
        setup = SimpleNamespace(family=socket.AF_UNIX, address="")
        engine = listener.Engine(Job(main, RequestCount(), setup))
        await engine.start()
        ours, theirs = socket.socketpair()
        with theirs, contextlib.closing(engine._listener):
            engine.take(PassedSocket(ours.detach(), 0, lambda _: None))
            finish = asyncio.create_task(engine.finish(60, streams=False))
            assert await asyncio.to_thread(theirs.recv, 1) == b""
            await engine._idle.wait()
            for _ in range(100):  # turns of the loop
                await asyncio.sleep(0)
            assert not finish.done()
            main.go.set()
            await finish
            assert main.accepts_again

    asyncio.run(run())
