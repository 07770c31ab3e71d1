"""uvicorn's protocol classes, made patient: at the end, what a client has sent already is read first."""

from __future__ import annotations

from typing import Any

from fdpass.serve.passed import unread

_AGAIN_SECONDS = 0.01  # until it is looked at again


def patient(http: Any) -> Any:
    """The protocol class, but that `shutdown` closes no connection whose next request waits in the kernel.

    A connection may come in the same turn of the loop in which the worker is told to finish. To close it before
    the loop has read it would be to refuse a request that was there in time.
    """

    class Patient(http):  # type: ignore[misc]
        def shutdown(self) -> None:
            idle = self.cycle is None or self.cycle.response_complete
            if (
                idle
                and not self.transport.is_closing()
                and unread(self.transport.get_extra_info("socket").fileno())
            ):
                self.loop.call_later(_AGAIN_SECONDS, self._shut_down_again)
            else:
                super().shutdown()

        def _shut_down_again(self) -> None:
            if self in self.connections:
                self.shutdown()
                return
            for other in list(self.connections):  # what it read may have made a WebSocket of it
                if other.transport is self.transport:
                    other.shutdown()

    return Patient
