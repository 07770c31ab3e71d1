"""Ask a server over its control socket with `await`: within a time limit, so that no server holds up another."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator
from typing import Any, Protocol

from fdpass import aio
from fdpass.errors import FdpassError, NotFound, NotListening, PeerClosed, RequestFailed


class Silent(Exception):
    """The server did not answer; the sentence says why."""


class Ask(Protocol):
    """Sends one request over an open connection, and returns the reply."""

    async def __call__(self, verb: str, /, **arguments: Any) -> dict[str, Any]:
        """Ask.

        Raises:
            RequestFailed: The server could not do it; the sentence says why.
        """


@contextlib.asynccontextmanager
async def asking(path: str, limit: float) -> AsyncIterator[Ask]:
    """Connect to a server's control socket.

    Args:
        path: The control socket.
        limit: Seconds for the connection and all requests over it.

    Raises:
        Silent: The server does not answer, or not within the limit.
    """
    try:
        async with asyncio.timeout(limit), await aio.connect(path, max_fds=0) as channel:
            yield functools.partial(_ask, channel)
    except TimeoutError:
        raise Silent(f"the server has not answered within {limit:g} s") from None
    except (NotFound, NotListening):
        raise Silent(f"no server listens at {path}") from None
    except PeerClosed:
        raise Silent("the server ended before it answered, or belongs to another user") from None
    except RequestFailed:
        raise
    except (FdpassError, OSError, ValueError) as error:  # ValueError: the reply is no JSON
        raise Silent(getattr(error, "strerror", None) or str(error)) from error


async def _ask(channel: aio.AsyncChannel, verb: str, **arguments: Any) -> dict[str, Any]:
    await channel.send(json.dumps({"do": verb, **arguments}).encode())
    reply: dict[str, Any] = json.loads((await channel.recv()).data)
    if not reply.pop("ok", False):
        raise RequestFailed(reply["error"])
    return reply
