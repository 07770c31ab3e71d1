"""The options of a channel, and the bounds within which they must be."""

from __future__ import annotations

from typing import TypedDict

from fdpass._ancillary import MAX_FDS
from fdpass._errors import InvalidMessage
from fdpass._policy import Policy

MAX_MESSAGE = 16 * 2**20


class ChannelOptions(TypedDict, total=False):
    """The parameters of `fdpass.Channel` without the socket."""

    acknowledged: bool
    max_message: int
    max_fds: int
    policy: Policy | None


def check_options(
    *,
    acknowledged: bool = False,  # noqa: ARG001 - any value will do
    max_message: int = MAX_MESSAGE,
    max_fds: int = MAX_FDS,
    policy: Policy | None = None,  # noqa: ARG001 - it has checked itself
) -> None:
    """Raise for an unknown option (TypeError), and for a bound that is negative (InvalidMessage)."""
    if max_message < 0 or max_fds < 0:
        raise InvalidMessage(f"max_message ({max_message}) and max_fds ({max_fds}) must be 0 or more")
