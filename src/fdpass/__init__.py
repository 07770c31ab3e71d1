"""Pass open files, sockets and any descriptor between processes: nothing leaks, nothing is lost silently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fdpass._ancillary import MAX_FDS, recv_fds, send_fds
from fdpass._message import Credentials, Message
from fdpass.activation import Inherited, inherited
from fdpass.channel import Channel
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
from fdpass.fd import Fd
from fdpass.grab import grab
from fdpass.listening import Listener, connect, listen
from fdpass.memory import share, view
from fdpass.peer import Allow, Peer
from fdpass.policy import Policy

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


def __getattr__(name: str) -> Any:
    if name in {"AsyncChannel", "AsyncListener", "aio"}:  # anyio takes longer to import than all the rest
        import importlib  # noqa: PLC0415

        aio = importlib.import_module("fdpass.aio")
        return aio if name == "aio" else getattr(aio, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
