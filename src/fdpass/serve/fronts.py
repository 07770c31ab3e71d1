"""What the engine and the application see of a connection in custody: a transport, and ``send``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fdpass.serve.kept import Kept


class Response:
    """``send`` of one request: the end of a response is told, and its head goes out with what follows."""

    __slots__ = ("_kept", "_send")

    def __init__(self, kept: Kept, send: Any) -> None:
        self._kept = kept
        self._send = send

    def send(self, message: Any) -> Any:
        """What the application calls, and awaits the outcome of."""
        kept = self._kept
        if kept.response is not self:
            return self._send(message)  # after the end: the engine says what it thinks of that
        kept.outlet.holding = True
        if message["type"] == "http.response.start":
            heads = kept.keeper.heads
            if not heads:
                kept.keeper.flush_soon()
            heads.append(kept)
            return self._send(message)
        return self._sent(message)

    async def _sent(self, message: Any) -> None:
        kept = self._kept
        try:
            await self._send(message)
        except BaseException:
            kept.flush()
            raise
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            kept.final()
        else:
            kept.flush()


class Transport:
    """What the engine's protocol has for a transport."""

    __slots__ = ("_kept", "_real", "close", "get_extra_info", "is_closing", "write")

    def __init__(self, kept: Kept, real: Any) -> None:
        self._kept = kept
        self._real = real
        self.write = kept.outlet.write
        self.close = kept.close
        self.is_closing = kept.is_closing
        self.get_extra_info = real.get_extra_info

    def writelines(self, data: Any) -> None:
        self.write(b"".join(data))

    def pause_reading(self) -> None:
        self._kept.pause(paused=True)

    def resume_reading(self) -> None:
        self._kept.pause(paused=False)

    def set_protocol(self, protocol: Any) -> None:
        self._kept.become(protocol)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
