"""What a receiver gets for a message whose last frame has arrived: the `Message`, or an error in its place."""

from __future__ import annotations

import errno

from fdpass._errors import FdpassError, MessageTooLarge, PolicyError
from fdpass._fd import Fd
from fdpass._framing import Arrived
from fdpass._losses import FdsLost, LossReason
from fdpass._memory import contents
from fdpass._message import Message
from fdpass._policy import Policy


def checked(
    arrived: Arrived, message: Message, policy: Policy | None, reason: LossReason
) -> Message | FdpassError:
    """Make the message or the error for the inbox; it owns the descriptors, and all others are closed.

    Args:
        arrived: The message's data and numbers. Taken.
        message: What recvmsg returned with the last frame: credentials and flags.
        policy: The descriptors that the channel admits.
        reason: Why descriptors were lost, if some were.

    Raises:
        ProtocolError: The message is in a memfd that is not what the peer announced.
        CallFailed: The memfd cannot be read.
    """
    if arrived.refused:
        return MessageTooLarge(errno.EMSGSIZE, arrived.refused)
    # From here on the message owns the descriptors: it closes them if an exception ends this.
    whole = Message(arrived.data, arrived.fds, message.credentials, message.flags)
    try:
        if arrived.memfd is not None:
            with Fd(arrived.fds.pop(0)) as memfd:
                whole.data = contents(memfd, arrived.memfd)
        objection = policy.objection(arrived.fds) if policy and not arrived.lost else None
    except BaseException:
        whole.close()
        raise
    if arrived.lost:
        return FdsLost(reason, whole.data, whole.fds, lost=arrived.lost)
    if objection:
        whole.close()
        return PolicyError(objection, whole.data)
    return whole
