"""uvicorn's protocol classes, made patient: they close no connection while something of its client is unread."""

from __future__ import annotations

from typing import Any

from fdpass.serve.worker.passed_socket import unread

_AGAIN_SECONDS = 0.01  # until it is looked at again


def patient(http: Any) -> Any:
    """The protocol class, but that it closes no connection whose next request is here.

    A request may come in the same turn of the loop in which the worker is told to finish, or in which its
    connection's keep-alive ends: it was there in time, and is served. And keep-alive counts from the moment at
    which the kernel has the whole response: until then a next request may be held back.
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

        def timeout_keep_alive_handler(self) -> None:
            sock = self.transport.get_extra_info("socket")
            if self.transport.is_closing() or (is_quiet(self.transport) and not unread(sock.fileno())):
                super().timeout_keep_alive_handler()
            else:
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )

        def _shut_down_again(self) -> None:
            if self in self.connections:
                self.shutdown()
                return
            for other in list(self.connections):  # what it read may have made a WebSocket of it
                if other.transport is self.transport:
                    other.shutdown()

    return Patient


def is_quiet(transport: Any) -> bool:
    """Whether nothing waits in it. TLS connections have the loop's transport, which ends in its own time."""
    quiet: bool = getattr(transport, "quiet", True)
    return quiet
