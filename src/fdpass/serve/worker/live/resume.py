"""`Resume`: what an application can say about its WebSocket, so that another worker goes on as it should."""

from __future__ import annotations

from typing import Protocol

from fdpass.serve.shared.slots import STATE_MAX
from fdpass.serve.worker.custody.state import load_state


def check_state(state: bytes) -> bytes:
    """A copy of a state.

    Raises:
        ValueError: It is too long.
    """
    if len(state) > STATE_MAX:
        raise ValueError(f"a state has at most {STATE_MAX} bytes, not {len(state)}")
    return bytes(state)


class Resumable(Protocol):
    """The transport of the WebSocket: see `fdpass.serve.worker.live.websocket`."""

    words: memoryview

    @property
    def attempt(self) -> int:
        """See `Resume.attempt`."""
        raise NotImplementedError

    def redeliver(self) -> None:
        """See `Resume.redeliver`."""

    def commit(self, state: bytes | None) -> None:
        """See `Resume.commit`."""

    def commit_with_next(self, state: bytes | None) -> None:
        """See `Resume.with_next`."""

    def hold(self) -> None:
        """See `Resume.hold`."""

    def release(self) -> None:
        """See `Resume.release`."""


class Resume:
    """A WebSocket that another worker can continue: ``scope["extensions"]["fdpass"]["resume"]``.

    If its worker dies or retires, another worker calls the application again with the same scope, as if the client
    had connected anew; the client notices nothing. `state` is all that the application finds again of what it has
    stored here.

    An application is done with a message when it asks for the next one. A worker that dies before that leaves a
    message of which nobody knows what became of it: then the client is told to connect again (close code 1012),
    unless the application has called `redeliver`.

    Attributes:
        state: What was committed last, here or in another worker: up to 64 bytes; b"" at first. With `with_next`,
            what will be committed.
    """

    __slots__ = ("_websocket", "state")

    def __init__(self, websocket: Resumable) -> None:
        self._websocket = websocket
        self.state = load_state(websocket.words)

    @property
    def attempt(self) -> int:
        """1 while messages come again that a dead worker's application was not done with (`redeliver`); else 0."""
        return self._websocket.attempt

    def redeliver(self) -> None:
        """Give messages again, from now on: those that the application was not done with when its worker died.

        They come in their order, with `attempt` 1, and once: if the next worker dies with the same message, the
        client is told to connect again. What the application had sent for them is sent twice, unless it used
        `with_next`.
        """
        self._websocket.redeliver()

    def commit(self, state: bytes | None = None) -> None:
        """Be done with all messages that were received, and store a state, in one instant.

        Args:
            state: Up to 64 bytes; None leaves the state as it is.

        Raises:
            ValueError: The state is too long.
            OSError: The WebSocket has ended, or another worker continues it: nothing was stored.
        """
        self._websocket.commit(state)
        if state is not None:
            self.state = bytes(state)

    def with_next(self, state: bytes | None = None) -> None:
        """Do what `commit` does in the instant in which the next message that is sent goes out.

        So after a death either nothing of it has happened, or all of it: what the message says, the state, and
        that the messages received are done with. Send the message before you receive another one.

        Args:
            state: Up to 64 bytes; None leaves the state as it is.

        Raises:
            ValueError: The state is too long.
        """
        self._websocket.commit_with_next(state)
        if state is not None:
            self.state = bytes(state)

    def hold(self) -> None:
        """Keep the WebSocket in this worker, and count no message as done with, until `release` or a commit.

        For an application that receives messages ahead into a queue of its own, and asks for the next one before
        it is done with the last. A reload waits for `release`, for ``--graceful-timeout`` at most. Each `hold`
        needs a `release` of its own.
        """
        self._websocket.hold()

    def release(self) -> None:
        """End a `hold`. With the last one, all messages before the last request for one are done with.

        Raises:
            RuntimeError: There was no `hold`.
        """
        self._websocket.release()
