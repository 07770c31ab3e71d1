"""The async face: channels on anyio, so on asyncio, uvloop and trio alike."""

from fdpass.aio._channel import AsyncChannel
from fdpass.aio._listening import AsyncListener, connect, listen

__all__ = ["AsyncChannel", "AsyncListener", "connect", "listen"]
