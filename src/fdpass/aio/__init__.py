"""Channels and listeners with ``await``, on anyio: they run on asyncio, uvloop and trio."""

from fdpass.aio._channel import AsyncChannel
from fdpass.aio._listening import AsyncListener, connect, listen

AsyncChannel.__module__ = AsyncListener.__module__ = "fdpass"
connect.__module__ = listen.__module__ = __name__

__all__ = ["AsyncChannel", "AsyncListener", "connect", "listen"]
