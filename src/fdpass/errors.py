"""Every exception of fdpass, and whose fault it is.

All derive from `FdpassError` and, where Python has a matching one, from that built-in exception too, so
``except OSError`` and ``except EOFError`` go on working.

========================  ==========================  =====================================
whose doing               exceptions                  what to do
========================  ==========================  =====================================
yours, before any effect  NotADescriptor, Closed,     correct the call
                          InvalidMessage, NotSealed,
                          NotActivated, ConfigError
the peer's                PeerClosed, PeerRefused,    drop the peer, or tell its owner
                          ProtocolError, PolicyError,
                          MessageTooLarge
the machine's             FdsLost, Truncated,         make room, wait, or ask for rights
                          Busy, Timeout, CallFailed
the application's         StartFailed, RequestFailed  mend the application, or the request
========================  ==========================  =====================================
"""

from fdpass._errors import (
    AddressInUse,
    BadDescriptor,
    Busy,
    CallFailed,
    Closed,
    ConfigError,
    FdpassError,
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
)
from fdpass._losses import FdsLost, Truncated

__all__ = [
    "AddressInUse",
    "BadDescriptor",
    "Busy",
    "CallFailed",
    "Closed",
    "ConfigError",
    "FdpassError",
    "FdsLost",
    "InvalidMessage",
    "MessageTooLarge",
    "NoSuchProcess",
    "NotADescriptor",
    "NotActivated",
    "NotFound",
    "NotListening",
    "NotPermitted",
    "NotSealed",
    "PeerClosed",
    "PeerRefused",
    "PolicyError",
    "ProtocolError",
    "RequestFailed",
    "StartFailed",
    "Timeout",
    "Truncated",
]
