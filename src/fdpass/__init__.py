"""Pass open files, sockets and any other descriptor between processes: none leaks, and none is lost silently."""

from __future__ import annotations

from fdpass import _interrupt  # first: the other imports take a tenth of a second

# isort: split

import importlib
from typing import TYPE_CHECKING, Any

from fdpass._activation import Inherited, inherited
from fdpass._ancillary import MAX_FDS, recv_fds, send_fds
from fdpass._channel import Channel
from fdpass._fd import Fd
from fdpass._grab import grab
from fdpass._listening import Listener, connect, listen
from fdpass._memory import share, view
from fdpass._message import Credentials, Message
from fdpass._peer import Allow, Peer
from fdpass._policy import Policy
from fdpass.errors import (
    AddressInUse,
    BadDescriptor,
    Busy,
    CallFailed,
    Closed,
    ConfigError,
    FdpassError,
    FdsLost,
    InvalidMessage,
    MessageTooLarge,
    NoSuchProcess,
    NotActivated,
    NotADescriptor,
    NotFound,
    NotListening,
    NotPermitted,
    NotSealed,
    PeerClosed,
    PeerRefused,
    PolicyError,
    ProtocolError,
    RequestFailed,
    StartFailed,
    Timeout,
    Truncated,
)

if TYPE_CHECKING:
    from fdpass.aio import AsyncChannel, AsyncListener

__version__ = "0.1.0"

__all__ = [
    "MAX_FDS",
    "AddressInUse",
    "Allow",
    "AsyncChannel",
    "AsyncListener",
    "BadDescriptor",
    "Busy",
    "CallFailed",
    "Channel",
    "Closed",
    "ConfigError",
    "Credentials",
    "Fd",
    "FdpassError",
    "FdsLost",
    "Inherited",
    "InvalidMessage",
    "Listener",
    "Message",
    "MessageTooLarge",
    "NoSuchProcess",
    "NotADescriptor",
    "NotActivated",
    "NotFound",
    "NotListening",
    "NotPermitted",
    "NotSealed",
    "Peer",
    "PeerClosed",
    "PeerRefused",
    "Policy",
    "PolicyError",
    "ProtocolError",
    "RequestFailed",
    "StartFailed",
    "Timeout",
    "Truncated",
    "connect",
    "grab",
    "inherited",
    "listen",
    "recv_fds",
    "send_fds",
    "share",
    "view",
]

for _name in __all__:  # tracebacks and reprs name the module from which users import
    if hasattr(globals().get(_name), "__module__"):
        globals()[_name].__module__ = __name__


_interrupt.raise_exceptions()


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name in {"AsyncChannel", "AsyncListener", "aio"}:  # anyio takes longer to import than the rest together
        aio = importlib.import_module("fdpass.aio")
        return aio if name == "aio" else getattr(aio, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
