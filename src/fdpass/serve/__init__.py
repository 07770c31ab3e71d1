"""A server of several processes: one listens, the others serve the connections that it hands to them.

`run` serves an application; `Config` says how. `Connection` is what a raw handler serves; `PassedListener` is for
servers that want a listening socket.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fdpass.serve.config import Config
    from fdpass.serve.connection import Connection
    from fdpass.serve.passed import PassedListener, PassedSocket
    from fdpass.serve.server import run

__all__ = ["Config", "Connection", "PassedListener", "PassedSocket", "run"]

_FROM = {
    "Config": "config",
    "Connection": "connection",
    "PassedListener": "passed",
    "PassedSocket": "passed",
    "run": "server",
}


def __getattr__(name: str) -> Any:
    if name in _FROM:  # a worker needs little of what the dispatcher does, and the reverse
        return getattr(importlib.import_module(f"fdpass.serve.{_FROM[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
