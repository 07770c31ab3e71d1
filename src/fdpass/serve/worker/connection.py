"""`Connection`: what ``async def handle(conn)`` serves: a stream whose small state outlives the worker.

Between two commits nothing counts: if the worker dies, another worker's handler has the state of the last commit,
and reads again what came after it. So what is read, what is written, and the state change together, or not at all.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fdpass.serve.shared.slots import ATTEMPT, STATE_MAX
from fdpass.serve.worker.link import AHEAD_MAX, Link, Moved


class Connection:
    """A stream in custody.

    Attributes:
        client: The client's address.
        state: What was committed last, by this worker or another: up to 64 bytes; b"" at first.
        attempt: How many workers have died since the last commit.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self.client: Any = link.client
        self.state = link.state
        self.attempt: int = link.words[ATTEMPT]

    async def read(self, most: int = 65536) -> bytes:
        """Up to so many bytes, 1 at least; b"" at the end of what the client sends.

        Raises:
            ConnectionError: The connection was lost.
        """
        link = self._link
        while not link.ahead and not link.ended:
            await link.more()
        return link.take(min(most, len(link.ahead)))

    async def readline(self) -> bytes:
        """Up to and with the next newline; what is left if the client ends without one; b"" at the end.

        Raises:
            ValueError: A line is longer than 30 KiB.
            ConnectionError: The connection was lost.
        """
        link = self._link
        while (end := link.ahead.find(b"\n") + 1) == 0 and not link.ended:
            if len(link.ahead) >= AHEAD_MAX:
                raise ValueError(f"a line is longer than {AHEAD_MAX} bytes")
            await link.more()
        return link.take(end or len(link.ahead))

    async def readexactly(self, count: int) -> bytes:
        """So many bytes: up to 30 KiB.

        Raises:
            asyncio.IncompleteReadError: The client ended before.
            ValueError: More is asked for than is kept.
            ConnectionError: The connection was lost.
        """
        link = self._link
        if count > AHEAD_MAX:
            raise ValueError(f"at most {AHEAD_MAX} bytes can be read at once, not {count}")
        while len(link.ahead) < count:
            if link.ended:
                raise asyncio.IncompleteReadError(link.take(len(link.ahead)), count)
            await link.more()
        return link.take(count)

    async def write(self, data: bytes) -> None:
        """Send bytes that belong to no commit: if the worker dies after this and before the next commit, the
        connection is reset. Waits while the client is slow.

        Raises:
            ConnectionError: The connection was lost.
        """
        self._link.send(data)
        await self._link.drained()

    async def commit(self, state: bytes, reply: bytes = b"") -> None:
        """What was read so far is done with, ``reply`` goes out, and the state is this: all of it, or nothing.

        Args:
            state: Up to 64 bytes.
            reply: Bytes to send.

        Raises:
            ValueError: The state is too long.
            ConnectionError: The connection was lost.
        """
        if len(state) > STATE_MAX:
            raise ValueError(f"a state has at most {STATE_MAX} bytes, not {len(state)}")
        self.state = bytes(state)
        self.attempt = 0
        await self._link.commit(self.state, reply)

    async def move(self) -> None:
        """Go on in another worker's handler, with the state of the last commit. Does not return.

        Raises:
            RuntimeError: The connection is not in custody (``--custody off``, TLS), or something was read or
                written since the last commit.
        """
        self._link.check_movable()
        raise Moved
