"""`Connection`: what ``async def handle(conn)`` serves: a stream whose small state outlives the worker.

Nothing counts until it is committed. If the worker dies, another worker's handler gets the state of the last
commit, and reads again what came after that commit. So what was read, what is written and the state change
together, or not at all.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fdpass.serve.shared.slots import ATTEMPT, STATE_MAX
from fdpass.serve.worker.link import UNREAD_MAX, Link, Moved


class Connection:
    """A stream in custody.

    Attributes:
        client: The client's address.
        state: What this worker or another committed last: up to 64 bytes; b"" at first.
        attempt: How many workers have died since the last commit.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self.client: Any = link.client
        self.state = link.state
        self.attempt: int = link.words[ATTEMPT]

    async def read(self, most: int = 65536) -> bytes:
        """Read 1 to ``most`` bytes; b"" once the client has ended its side.

        Raises:
            ConnectionError: The connection was lost.
        """
        link = self._link
        while not link.unread and not link.eof:
            await link.wait_for_data()
        return link.take(min(most, len(link.unread)))

    async def readline(self) -> bytes:
        """Read up to the next newline, and the newline. At the end: what came without a newline; then b"".

        Raises:
            ValueError: A line is longer than 30 KiB.
            ConnectionError: The connection was lost.
        """
        link = self._link
        while (end := link.unread.find(b"\n") + 1) == 0 and not link.eof:
            if len(link.unread) >= UNREAD_MAX:
                raise ValueError(f"a line is longer than {UNREAD_MAX} bytes")
            await link.wait_for_data()
        return link.take(end or len(link.unread))

    async def readexactly(self, count: int) -> bytes:
        """Read ``count`` bytes: up to 30 KiB.

        Raises:
            asyncio.IncompleteReadError: The client ended its side before.
            ValueError: ``count`` is more than 30 KiB.
            ConnectionError: The connection was lost.
        """
        link = self._link
        if count > UNREAD_MAX:
            raise ValueError(f"at most {UNREAD_MAX} bytes can be read at once, not {count}")
        while len(link.unread) < count:
            if link.eof:
                raise asyncio.IncompleteReadError(link.take(len(link.unread)), count)
            await link.wait_for_data()
        return link.take(count)

    async def write(self, data: bytes) -> None:
        """Send bytes that belong to no commit, and wait while the client is slow.

        If the worker dies after this and before the next commit, the connection is reset.

        Raises:
            ConnectionError: The connection was lost.
        """
        self._link.write(data)
        await self._link.wait_until_writable()

    async def commit(self, state: bytes, reply: bytes = b"") -> None:
        """Mark what was read so far as done, send ``reply``, and store ``state``: all of it, or nothing.

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
