"""Every exception of fdpass, sorted by cause.

Each derives from `FdpassError`, and from a built-in exception where Python has a matching one: ``except OSError``
and ``except EOFError`` catch them as usual.

=========================  ==========================  ======================================
cause                      exceptions                  remedy
=========================  ==========================  ======================================
your call; nothing was     NotADescriptor, Closed,     correct the call
sent or started            InvalidMessage, NotSealed,
                           NotActivated, ConfigError
the peer                   PeerClosed, PeerRefused,    drop the peer, or tell its operator
                           ProtocolError, PolicyError,
                           MessageTooLarge
the machine                FdsLost, Truncated,         make room, wait, or ask for rights
                           Busy, Timeout, CallFailed
the application            StartFailed, RequestFailed  correct the application or the request
=========================  ==========================  ======================================
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
