"""A server of several processes: the dispatcher listens, and workers serve the connections that it passes.

`run` serves an application with the settings of a `Config`. `Connection` is the argument of a raw handler.
`Resume` is what an application gets with a WebSocket that can outlive its worker.
`PassedListener` takes the place of a listening socket in servers that accept connections themselves.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fdpass.serve.server import run
    from fdpass.serve.shared.config import Config
    from fdpass.serve.worker.connection import Connection
    from fdpass.serve.worker.live.resume import Resume
    from fdpass.serve.worker.passed_listener import PassedListener
    from fdpass.serve.worker.passed_socket import PassedSocket

__all__ = ["Config", "Connection", "PassedListener", "PassedSocket", "Resume", "run"]

_FROM = {
    "Config": "shared.config",
    "Connection": "worker.connection",
    "PassedListener": "worker.passed_listener",
    "PassedSocket": "worker.passed_socket",
    "Resume": "worker.live.resume",
    "run": "server",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name in _FROM:  # imported on use: a worker needs little of the dispatcher's code, and the reverse
        return getattr(importlib.import_module(f"fdpass.serve.{_FROM[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
