"""`Worker`: a worker's life: it reads messages from its channel, gives connections to the engine, and finishes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import signal
import socket
import time
from typing import Any

from fdpass._conversation import Conversation
from fdpass._message import Message, release
from fdpass._words import counted
from fdpass.errors import FdpassError, FdsLost
from fdpass.serve.shared import messages, short_clock
from fdpass.serve.shared.access_log import AccessLog
from fdpass.serve.shared.ledger import Holder
from fdpass.serve.shared.setup import Setup
from fdpass.serve.shared.slots import FLAGS, Flag, slot_of
from fdpass.serve.worker.application import explain
from fdpass.serve.worker.custody.buffers import Buffers
from fdpass.serve.worker.engines import Job, engine_for
from fdpass.serve.worker.forks import FORKS
from fdpass.serve.worker.heartbeat import Heartbeat
from fdpass.serve.worker.leaving import EXIT_SECONDS, do_nothing
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.proxied import ProxiedConnections
from fdpass.serve.worker.reports import Reports
from fdpass.serve.worker.request_count import RequestCount
from fdpass.serve.worker.slot_client import load_client

log = logging.getLogger("fdpass.serve")
_DONTWAIT = int(socket.MSG_DONTWAIT)
_MESSAGES_MAX = 8  # read at once; then the loop gets its turn


class Worker:
    """Takes connections from the channel and gives them to the engine.

    Args:
        channel: To the dispatcher.
        setup: What the dispatcher told the worker.
    """

    def __init__(self, channel: Conversation, setup: Setup) -> None:
        self._setup = setup
        self._channel = channel
        self._ledger = setup.ledger
        self._row = setup.row
        self._request_count = RequestCount()
        self._access_log: AccessLog | None = None
        if setup.access_log is not None:
            config = setup.config
            self._access_log = AccessLog(setup.access_log, json=config.log_json, form=config.access_log_format)
        self._leaving = False  # LEAVING was sent
        self._finishing: asyncio.Task[None] | None = None
        self._deadline = 0.0  # when the time to finish is over, on the monotonic clock

    @property
    def seconds_left(self) -> float:
        """How many seconds of its time to finish a worker has for its exit: one, if all are used up."""
        return max(EXIT_SECONDS, self._deadline - time.monotonic())

    async def run(self, app: Any, interface: str) -> int:
        """Start the application, and serve until the last connection has ended. Returns the exit code."""
        self._loop = asyncio.get_running_loop()
        FORKS.add_loop(self._loop)
        setup, channel, request_count = self._setup, self._channel, self._request_count
        self._reports = Reports(channel, self._ledger, self._row, custody=setup.slots is not None)
        self._finished = self._loop.create_future()
        buffers = None if setup.buffers is None else Buffers(setup.buffers)
        try:
            job = Job(app, request_count, setup, self._access_log, buffers, self._leave, self._excuse)
            self._engine = engine_for(interface, job)
            await self._engine.start()
        except BaseException as error:  # noqa: BLE001 - the dispatcher logs it
            self.report_failure(error)
            return 1
        self._proxied = ProxiedConnections(buffers, plain_http=self._engine.plain_http, serve=self._give_to_engine)
        gc.collect()
        gc.freeze()  # imported objects stay: no later collection has to look at them
        self._loop.add_signal_handler(signal.SIGTERM, self._leave)
        FORKS.add_handler(signal.SIGTERM)
        heartbeat = Heartbeat(channel, self._ledger, self._row, request_count, setup.config.hang_timeout)
        heartbeat.start()
        self._send(messages.READY + interface.encode())
        self._loop.add_reader(channel.sock.fileno(), self._on_channel)
        try:
            await self._finished
        finally:
            self._loop.remove_reader(channel.sock.fileno())
            self._loop.remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, do_nothing)
            self._reports.flush()
            request_count.store(self._ledger, self._row)
        return 0

    def report_failure(self, error: BaseException) -> None:
        """Tell the dispatcher why the application did not start."""
        report = json.dumps(explain(error), ensure_ascii=False).encode("utf-8", "backslashreplace")
        self._send(messages.FAILED + report)

    def _leave(self) -> None:
        """Make the dispatcher replace this worker."""
        self._leaving = True
        self._send(messages.LEAVING)

    def _excuse(self, seconds: float) -> None:
        """Store the beat that is due at the end of so many seconds; see `Job.excuse`."""
        self._ledger.beat[self._row] = time.monotonic_ns() + int(seconds * 1e9)

    def _send(self, data: bytes) -> None:
        channel = self._channel
        if not channel.out.send_now(data, ()):
            with contextlib.suppress(FdpassError):
                channel.queue(channel.out.prepare(data, ()))
                channel.push()

    # The channel

    def _on_channel(self) -> None:
        channel = self._channel
        try:
            while channel.pull(_DONTWAIT) and not channel.ended:
                if len(channel.inbox) >= _MESSAGES_MAX:
                    break
        except FdpassError as error:
            channel.drop(error)
        while channel.inbox:
            try:
                message = channel.take()
            except FdsLost as loss:
                self._on_loss(loss)
            else:
                self._on_message(message)
        if channel.ended is not None:
            self._loop.remove_reader(channel.sock.fileno())
            self._finish(retiring=False)  # the dispatcher has gone

    def _on_message(self, message: Message) -> None:
        word = message.data[:1]
        if word == messages.HANDOFF:
            taken = messages.slots_of(message.data)
            self._request_count.waits.append(short_clock.seconds_since(taken.pop(0)))
            self._take(taken, release(message))
        elif word == messages.REPLAY:
            slot, read = messages.replayed(message.data)
            self._take([slot], release(message), read)
        elif word == messages.TURN:
            index, *slots = messages.slots_of(message.data)
            self._accept(self._setup.listeners[index], slots)
        elif word == messages.LOG and self._access_log is not None:
            self._access_log.reopen(message.fds[0])
        elif word in {messages.RETIRE, messages.END}:
            self._finish(retiring=word == messages.RETIRE)
        elif word == messages.SYNC:
            serial, _ = messages.synced_with(message.data)
            self._reports.synchronize(serial, lambda: self._send(messages.synced(serial, leaving=self._leaving)))

    def _take(self, slots: Any, numbers: list[int], read: bytes = b"") -> None:
        """Count the connections of a message as taken, and serve them."""
        self._ledger.taken[self._row] += len(slots)
        holders, taken = self._ledger.holders, self._reports.taken
        for slot in slots:
            holders[slot] = taken
        for slot, number in zip(slots, numbers, strict=True):
            self._serve(slot, number, read)
        if self._ledger.starved[self._row]:
            self._send(messages.ROOM)

    def _on_loss(self, loss: FdsLost) -> None:
        """Our table of descriptors is full: the kernel has closed the descriptors that it had no room for."""
        if loss.data[:1] == messages.REPLAY:
            self._ledger.taken[self._row] += 1
            slot, read = messages.replayed(loss.data)
            self._reports.mark(slot, Holder.RETURNED)
            self._send(messages.moved(slot, read))
            return
        slots = messages.slots_of(loss.data)[1:]
        arrived = len(loss.fds)
        log.debug("too many open files: no room for %s", counted(len(slots) - arrived, "connection"))
        self._take(slots[:arrived], [fd.take() for fd in loss.fds])
        self._ledger.taken[self._row] += len(slots) - arrived
        for slot in slots[arrived:]:
            self._reports.mark(slot, Holder.DROPPED)
        self._send(messages.with_slots(messages.DROPPED, slots[arrived:]))

    def _accept(self, listener: socket.socket, slots: list[int]) -> None:
        """Accept as many connections as the dispatcher gave slots for."""
        used = 0
        for slot in slots:
            try:
                # A number and no socket object, as in the dispatcher's `by_dispatcher`.
                number, _ = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
            except BlockingIOError:
                break
            except OSError as error:
                log.debug("accept: %s", error)
                break
            self._ledger.accepted[self._row] += 1
            self._reports.mark(slot, Holder.TAKEN)
            used += 1
            self._serve(slot, number, b"")
        self._send(messages.with_slots(messages.ACCEPTED, slots[:used]))

    # Connections

    def _serve(self, slot: int, number: int, read: bytes) -> None:
        setup = self._setup
        passed = PassedSocket(number, slot, self._reports.closed, setup.family, setup.proto)
        passed.read = read
        if self._engine.keeps_slots and not setup.config.proxy_protocol:
            self._engine.take(passed)
            return
        if not self._engine.keeps_slots:  # whose transports wait for nothing
            passed.setblocking(False)
        words = None
        if setup.slots is not None:
            words = slot_of(setup.slots, slot)
        if setup.config.proxy_protocol and not (words is not None and load_client(words, passed)):
            self._proxied.add(passed, words)
        else:
            self._give_to_engine(passed, words)

    def _give_to_engine(self, passed: PassedSocket, words: memoryview | None) -> None:
        if words is not None and not self._engine.keeps_slots:
            words[FLAGS] = Flag.OPAQUE
        self._engine.take(passed)

    # The end

    def _finish(self, *, retiring: bool) -> None:
        """End what is idle, finish what is not, and let `run` return. END replaces RETIRE.

        A new dispatcher sends RETIRE or END again: what has begun goes on, and its time has begun, too.
        """
        if self._finishing is not None:
            if retiring or not self._proxied.retiring:
                return
            self._finishing.cancel()
        self._proxied.retiring = retiring
        self._finishing = self._loop.create_task(self._run_finish(retiring=retiring))

    async def _run_finish(self, *, retiring: bool) -> None:
        seconds = self._setup.config.graceful_timeout
        self._deadline = time.monotonic() + seconds
        await self._proxied.finish(seconds)
        left = max(0.0, round(self._deadline - time.monotonic(), 2))
        await self._engine.finish(left, retiring=retiring)
        if not self._finished.done():
            self._finished.set_result(None)
