"""What a child process that the application forks keeps of its worker: its own connection, and nothing else.

A forked child inherits everything. With the loop's signal handlers and their wake-up descriptor, a SIGTERM to the
child would retire the worker; with the shared memory, the child could report to the dispatcher what is not true;
and each connection that the child has would stay open. So all of these are replaced in the child: handlers by the
default ones, descriptors by ``/dev/null`` (their numbers stay in use, so a late close closes no other file),
memory by private memory.

Where forking is the way of serving, the child keeps the connection of the thread that forked: in a blocking
handler, or in a server of `PassedListener` that accepts and forks, as `socketserver.ForkingMixIn` does. The worker
then closes its descriptor without ending the connection, and reports the end when the child has gone. A child of
multiprocessing serves no connection, and keeps none.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import mmap
import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterable
from typing import Any

from fdpass.serve.worker.passed_socket import CONNECTIONS, PassedSocket

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_PROTECTION = mmap.PROT_READ | mmap.PROT_WRITE
_MAP_FIXED = 0x10  # mmap(2); Python has no name for it
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED


class _Thread(threading.local):
    """Of each thread: the connection that it serves; and of the fork in progress, the signal mask and the pipe."""

    own: weakref.ref[PassedSocket] | None = None
    mask: Iterable[int] = ()
    held: PassedSocket | None = None
    pipe: tuple[int, int] | None = None


class Forks:
    """The hooks that run before and after each fork of a worker, and what they need.

    Attributes:
        numbers: Descriptors of the worker that no child may use.
        keeps_all: The application's own server has threads, of which nobody knows which connection each serves: a
            child of such a thread keeps all.
        in_child: This process is a forked child.
    """

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self.keeps_all = self.in_child = False
        self._thread = _Thread()
        self._memories: list[tuple[int, int]] = []
        self._handlers: list[Any] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pipe = -1  # in a child: of the fork that made it
        self._is_watching = False  # multiprocessing calls `_let_go` in its children

    def install(self, channel: int) -> None:
        """Watch forks from now on; ``channel`` is the descriptor of the channel to the dispatcher."""
        self.numbers.add(channel)
        os.register_at_fork(
            before=self._before, after_in_parent=self._after_in_parent, after_in_child=self._after_in_child
        )

    def add_memory(self, memories: Iterable[mmap.mmap]) -> None:
        """Let these be private memory in each child."""
        for memory in memories:
            address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            self._memories.append((address, len(memory)))

    def add_handler(self, number: int) -> None:
        """Let children have the default handler of each signal that has the same handler as this one has now."""
        self._handlers.append(signal.getsignal(number))

    def add_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Keep a running loop's descriptors from children: the same epoll set is the worker's and the child's."""
        self._loop = loop
        for name in ("_selector", "_ssock", "_csock"):  # of asyncio
            part = getattr(loop, name, None)
            if part is not None:
                self.numbers.add(part.fileno())
        backend = getattr(loop, "_get_backend_id", None)  # of uvloop
        if backend is not None:
            self.numbers.add(backend())

    def drop_loop(self) -> None:
        """The loop is closed."""
        self._handlers = [each for each in self._handlers if getattr(each, "__self__", None) is not self._loop]
        self._loop = None

    def serve(self, passed: PassedSocket) -> None:
        """The calling thread serves this connection from now on: a child that it forks keeps the connection."""
        self._thread.own = weakref.ref(passed)

    def end_child(self, error: BaseException | None = None) -> None:
        """End a forked child that leaves the application's code, by an exception or a return; do nothing else."""
        if self.in_child:
            code = None if error is None else getattr(error, "code", 1)
            os._exit(0 if code is None else code if isinstance(code, int) else 1)

    # Around a fork

    def _before(self) -> None:
        if self.in_child:
            return
        thread = self._thread
        # A signal to the child must find the default handlers: `terminate` may follow the fork at once.
        thread.mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        held = None if thread.own is None else thread.own()
        thread.held = thread.pipe = None
        if held is None or held.fileno() < 0 or self._loop is None:
            return
        util: Any = sys.modules.get("multiprocessing.util")
        if util is not None and not self._is_watching:
            self._is_watching = True
            util.register_after_fork(self, Forks._let_go)
        with contextlib.suppress(OSError):  # EMFILE: the connection ends when the worker closes it
            thread.pipe = os.pipe()
            self.numbers.update(thread.pipe)  # a child that another thread forks now must not hold it
            held._children += 1  # noqa: SLF001 - hidden from applications, which have the socket
            thread.held = held

    def _after_in_parent(self) -> None:
        if not self.in_child:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._thread.mask)
        held, pipe = self._thread.held, self._thread.pipe
        self._thread.held = self._thread.pipe = None
        if held is None or pipe is None or self._loop is None:
            return
        self.numbers.discard(pipe[1])
        os.close(pipe[1])
        with contextlib.suppress(RuntimeError):  # the loop is closed: the worker exits
            self._loop.call_soon_threadsafe(self._watch_child, held, pipe[0])

    def _watch_child(self, held: PassedSocket, number: int) -> None:
        """Wait until the child has gone: then the last write end of the pipe is closed."""
        loop = self._loop
        assert loop is not None

        def on_end() -> None:
            loop.remove_reader(number)
            self.numbers.discard(number)
            os.close(number)
            held._child_ended()  # noqa: SLF001 - as above

        loop.add_reader(number, on_end)

    def _after_in_child(self) -> None:
        if self.in_child:
            return  # a child of a child
        self.in_child = True
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            if (handler := signal.getsignal(number)) is not None and handler in self._handlers:
                default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, default)
        held, pipe = self._thread.held, self._thread.pipe
        kept = set()
        if held is not None and pipe is not None:
            self._pipe = pipe[1]
            held._children = 0  # noqa: SLF001 - as above
            # The close of the child's copy ends the connection only if the worker has closed its own.
            held.returned, held._on_close = True, self._release  # noqa: SLF001 - as above
            kept = {held.fileno(), pipe[1]}
        elif self.keeps_all:
            kept = set(CONNECTIONS)
        _replace((self.numbers | CONNECTIONS) - kept)
        self.numbers.clear()
        CONNECTIONS.intersection_update(kept)
        for address, size in self._memories:
            _libc.mmap(address, size, _PROTECTION, _PRIVATE, -1, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._thread.mask)

    def _let_go(self) -> None:
        """Called in a child of multiprocessing, which serves no connection."""
        if self.in_child:
            _replace(CONNECTIONS)
            CONNECTIONS.clear()
            self._release()

    def _release(self, _: object = None) -> None:
        """This child serves its connection no longer: let the worker know."""
        number, self._pipe = self._pipe, -1
        if number >= 0:
            os.close(number)


def _replace(numbers: set[int]) -> None:
    """Let these descriptors of a child refer to ``/dev/null``."""
    if not numbers:
        return
    first = next(iter(numbers))
    os.close(first)  # makes room in a full table
    null = os.open(os.devnull, os.O_RDWR)
    for number in numbers:
        if number != null:
            os.dup2(null, number, inheritable=False)
    if null not in numbers:
        os.close(null)


FORKS = Forks()
"""Of this worker."""
