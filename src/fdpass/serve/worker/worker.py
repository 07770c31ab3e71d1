"""A worker's life: started by exec, told everything over its channel, it serves what comes, and goes when told.

``python -m fdpass.serve.worker N``: N is the number of its end of the channel. The first message is SETUP,
with the ledger, the access log (if any) and, where workers accept, the listeners; see `messages`.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import json
import logging
import os
import signal
import socket
import sys
import time
from typing import Any

from fdpass._ancillary import MAX_FDS
from fdpass._conversation import MAX_MESSAGE, Conversation
from fdpass._message import Message, release
from fdpass.errors import FdpassError, FdsLost, PeerClosed, StartFailed
from fdpass.serve.shared import messages
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.ledger import BEAT_SECONDS
from fdpass.serve.shared.logs import configure
from fdpass.serve.shared.setup import Setup
from fdpass.serve.shared.slots import FLAGS, Flag, slot_of
from fdpass.serve.worker.access_log import AccessLog
from fdpass.serve.worker.application import explained, interface_of, load
from fdpass.serve.worker.custody.buffers import Buffers
from fdpass.serve.worker.custody.reader import Reader
from fdpass.serve.worker.engines import Job, engine_for
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.proxy_header import ProxyError
from fdpass.serve.worker.proxy_reader import LONGEST, note, read_header, recall
from fdpass.serve.worker.reports import Reports
from fdpass.serve.worker.request_count import RequestCount

log = logging.getLogger("fdpass.serve")
_DONTWAIT = int(socket.MSG_DONTWAIT)
_ORPHAN_SECONDS = 5.0
"""How often the guard against a hang without a dispatcher is wound up; it strikes much later."""


class Worker:
    """Takes connections from the channel and gives them to the engine; counts; reports.

    Attributes:
        setup: What it was told.
    """

    def __init__(self, talk: Conversation, setup: Setup) -> None:
        self.setup = setup
        self._talk = talk
        self._ledger = setup.ledger
        self._row = setup.row
        self._access_log = (
            None if setup.access_log is None else AccessLog(setup.access_log, json=setup.config.log_json)
        )
        self._buffers = None if setup.buffers is None else Buffers(setup.buffers)
        self._retiring = False
        self._leaving: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._wound = 0.0
        self._tally = RequestCount()

    async def run(self, app: Any, interface: str) -> int:
        """From the start of the application to the end of its last connection. Returns the exit code."""
        self._loop = asyncio.get_running_loop()
        custody = self.setup.slots is not None
        self._reports = Reports(self._talk, self._ledger, self._row, custody=custody)
        self._done = self._loop.create_future()
        setup = self.setup
        job = Job(app, self._tally, setup, self._access_log, self._buffers)
        try:
            self._engine = engine_for(interface, job)
            await self._engine.start()
        except BaseException as error:  # noqa: BLE001 - told to the dispatcher
            self.tell(messages.FAILED + json.dumps(explained(error)).encode())
            return 1
        gc.collect()
        gc.freeze()  # what was imported stays: no later collection need look at it
        self._loop.add_signal_handler(signal.SIGTERM, self.tell, messages.LEAVING)
        self._beat(self._loop.time())
        self.tell(messages.READY)
        self._loop.add_reader(self._talk.sock.fileno(), self._on_channel)
        try:
            await self._done
        finally:
            self._loop.remove_reader(self._talk.sock.fileno())
            self._reports.flush()
            self._count()
        return 0

    def _beat(self, due: float) -> None:
        now = self._loop.time()
        self._ledger.lag[self._row] = max(0, int((now - due) * 1e9))
        self._count()
        self._ledger.beat[self._row] = time.monotonic_ns()
        self._loop.call_later(BEAT_SECONDS, self._beat, now + BEAT_SECONDS)
        self._talk.flush()  # what found no room in the channel
        hang = self.setup.config.hang_timeout
        if hang and now - self._wound > _ORPHAN_SECONDS:
            # The dispatcher watches this loop. If it is gone, and the loop hangs, the C thread of faulthandler
            # is what remains.
            self._wound = now
            faulthandler.dump_traceback_later(hang + 3 * _ORPHAN_SECONDS, exit=True)

    def _count(self) -> None:
        self._ledger.requests[self._row] = self._tally.begun - self._tally.over
        self._ledger.handled[self._row] = self._tally.over

    # The channel

    def _on_channel(self) -> None:
        talk = self._talk
        try:
            while talk.pull(_DONTWAIT) and not talk.ended:
                if len(talk.inbox) >= 8:
                    break  # the loop has other work too
        except FdpassError as error:
            talk.drop(error)
        while talk.inbox:
            try:
                message = talk.take()
            except FdsLost as loss:
                self._lost(loss)
            else:
                self._act_on(message)
        if talk.ended is not None:
            self._loop.remove_reader(talk.sock.fileno())
            self._leave(streams=False)  # the dispatcher has gone

    def _act_on(self, message: Message) -> None:
        word = message.data[:1]
        if word == messages.HANDOFF:
            self._take(messages.slots_of(message.data), release(message))
        elif word == messages.REPLAY:
            slot, read = messages.replayed(message.data)
            self._take([slot], release(message), read)
        elif word == messages.TURN:
            index, *slots = messages.slots_of(message.data)
            self._accept(self.setup.listeners[index], slots)
        elif word == messages.LOG and self._access_log is not None:
            self._access_log.reopen(message.fds[0])
        elif word in {messages.RETIRE, messages.END}:
            self._leave(streams=word == messages.RETIRE)

    def _take(self, slots: Any, numbers: list[int], read: bytes = b"") -> None:
        self._ledger.taken[self._row] += len(slots)
        for slot, number in zip(slots, numbers, strict=True):
            self._serve(slot, number, read)
        if self._ledger.starved[self._row]:
            self.tell(messages.ROOM)

    def _lost(self, loss: FdsLost) -> None:
        """Our table of descriptors was full: the kernel closed what had no room in it."""
        if loss.data[:1] == messages.REPLAY:
            self._ledger.taken[self._row] += 1
            self.tell(messages.moved(*messages.replayed(loss.data)))
            return
        slots = messages.slots_of(loss.data)
        came = len(loss.fds)
        log.debug("no room for %d passed connection(s): too many open files", len(slots) - came)
        self._take(slots[:came], [fd.take() for fd in loss.fds])
        self._ledger.taken[self._row] += len(slots) - came
        self.tell(messages.with_slots(messages.DROPPED, slots[came:]))

    def _accept(self, listener: socket.socket, slots: list[int]) -> None:
        """It is our turn: accept as many as there are slots."""
        used = 0
        for slot in slots:
            try:
                number, _ = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - see `accepting`
            except BlockingIOError:
                break
            except OSError as error:
                log.debug("accept: %s", error)
                break
            self._ledger.accepted[self._row] += 1
            used += 1
            self._serve(slot, number, b"")
        self.tell(messages.with_slots(messages.ACCEPTED, slots[:used]))

    # Connections

    def _serve(self, slot: int, number: int, read: bytes) -> None:
        setup = self.setup
        passed = PassedSocket(number, slot, self._reports.closed, family=setup.family, proto=setup.proto)
        passed.setblocking(False)
        passed.read = read
        words = None
        if setup.slots is not None:
            words = slot_of(setup.slots, slot)
        if setup.config.proxy_protocol and not (words is not None and recall(words, passed)):
            task = self._loop.create_task(self._serve_proxied(passed, words))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._give(passed, words)

    def _give(self, passed: PassedSocket, words: memoryview | None) -> None:
        """Let the engine have it."""
        if words is not None and not self._engine.keeps:
            words[FLAGS] = Flag.OPAQUE
        self._engine.take(passed)

    async def _serve_proxied(self, passed: PassedSocket, words: memoryview | None) -> None:
        intake = None
        if words is not None and self._buffers is not None:
            if not self._engine.answers:
                words[FLAGS] |= Flag.STREAM
            scratch = memoryview(bytearray(LONGEST))
            intake = Reader(words, self._buffers, scratch, marks=passed.is_unix)
            passed.let_go = intake.forget
        try:
            length = await read_header(passed, intake)
        except BaseException as error:
            passed.returned = self._retiring and intake is not None and isinstance(error, asyncio.CancelledError)
            passed.close()
            if intake is not None and not passed.returned:
                intake.forget()
            if not isinstance(error, ProxyError | OSError):
                raise
            log.warning("a connection without a PROXY header was closed: %s", error)
            return
        if words is not None and intake is not None:
            note(words, passed, length)
            intake.release()
        self._give(passed, words)

    # The end

    def _leave(self, *, streams: bool) -> None:
        self._retiring = streams
        if self._leaving is not None:
            self._leaving.cancel()
        self._leaving = self._loop.create_task(self._left(streams=streams))

    async def _left(self, *, streams: bool) -> None:
        if streams and self._tasks:
            await self._end_headers()
        await self._engine.finish(self.setup.config.graceful_timeout, streams=streams)
        if not self._done.done():
            self._done.set_result(None)

    async def _end_headers(self) -> None:
        """Connections whose PROXY header has not come whole go to another worker, or it is awaited."""
        if self.setup.slots is not None:
            for task in self._tasks:
                task.cancel()
        await asyncio.wait(self._tasks, timeout=self.setup.config.graceful_timeout)

    def tell(self, data: bytes) -> None:
        """Send a message to the dispatcher."""
        talk = self._talk
        if not talk.out.send_now(data, ()):
            with contextlib.suppress(FdpassError):
                talk.queue(talk.out.prepare(data, ()))
                talk.push()


def _loop_factory(config: Config, interface: str) -> Any:
    if config.loop == "asyncio" or interface == "listener":  # uvloop accepts in C, so not from a PassedListener
        return asyncio.SelectorEventLoop
    try:
        import uvloop  # noqa: PLC0415 - only where it is wanted and installed
    except ImportError:
        if config.loop == "uvloop":
            raise StartFailed("--loop uvloop: it is not installed: pip install uvloop") from None
        return asyncio.SelectorEventLoop
    return uvloop.new_event_loop


def main() -> None:
    """Live."""
    faulthandler.enable()  # the dispatcher sends SIGABRT to a worker that hangs: its stacks are printed
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    talk = Conversation(sock, acknowledged=False, max_message=MAX_MESSAGE, max_fds=MAX_FDS, policy=None)
    while not talk.ready():
        talk.pull()
    try:
        setup = Setup(talk.take())
    except PeerClosed:
        return
    configure(setup.config.log_level, as_json=setup.config.log_json)
    worker = Worker(talk, setup)
    try:
        config = setup.config
        app = load(config.app, config.app_dir, factory=config.factory)
        interface = interface_of(app) if config.interface == "auto" else config.interface
        factory = _loop_factory(config, interface)
    except BaseException as error:  # noqa: BLE001 - told to the dispatcher
        worker.tell(messages.FAILED + json.dumps(explained(error)).encode())
        os._exit(1)  # and do not wait for threads of the application
    with asyncio.Runner(loop_factory=factory) as runner:
        status = runner.run(worker.run(app, interface))
        with contextlib.suppress(OSError):  # a full disk, or nobody reads
            sys.stdout.flush()
    os._exit(status)  # threads that did not end in time are left behind
