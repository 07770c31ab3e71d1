"""A server of several processes: one listens, the others serve the connections that it hands to them.

`run` serves an application; `Config` says how. `Connection` is what a raw handler serves; `PassedListener` is for
servers that want a listening socket.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fdpass.serve.server import run
    from fdpass.serve.shared.config import Config
    from fdpass.serve.worker.connection import Connection
    from fdpass.serve.worker.passed_listener import PassedListener
    from fdpass.serve.worker.passed_socket import PassedSocket

__all__ = ["Config", "Connection", "PassedListener", "PassedSocket", "run"]

_FROM = {
    "Config": "shared.config",
    "Connection": "worker.connection",
    "PassedListener": "worker.passed_listener",
    "PassedSocket": "worker.passed_socket",
    "run": "server",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name in _FROM:  # a worker needs little of what the dispatcher does, and the reverse
        return getattr(importlib.import_module(f"fdpass.serve.{_FROM[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
