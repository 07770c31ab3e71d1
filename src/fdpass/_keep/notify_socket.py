"""`NotifySocket`: the socket at which programs send notifications, with the credentials of each sender.

The kernel adds the credentials (SO_PASSCRED of unix(7)). They decide whose notifications count, because every user
who can reach the socket file may send: a program can give up its rights after its start.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import time
from collections.abc import Callable

from fdpass._ancillary import loss_reason, receive
from fdpass._errors import translated
from fdpass._keep.notification import MOST_BYTES
from fdpass._message import Message
from fdpass._sockets import SocketFile, address_of, bound_at_file, identity_of, translating_errors, unlink_own
from fdpass._supervision.loop import Loop

log = logging.getLogger("fdpass.keep")

_MOST_AT_ONCE = 64  # datagrams; then other events have their turn
_MOST_READS = 16  # of so many datagrams: more than any queue holds (net.unix.max_dgram_qlen)
_DONTWAIT = int(socket.MSG_DONTWAIT)
_CUT = int(socket.MSG_TRUNC)
_LOST = int(socket.MSG_CTRUNC)
_QUIET_SECONDS = 10.0  # for which refused senders are not logged again


class NotifySocket:
    """Receives notifications.

    Args:
        loop: Event loop that watches the socket.
        address: A path, or ``@`` and an abstract name.
        mode: The permissions of the socket file: a sender needs ``w``.
        may_notify: Decides about a sender, by pid and uid.
        on_message: Called with each message of an admitted sender, in the order in which they were sent. The
            message is closed afterwards.

    Attributes:
        address: The value of NOTIFY_SOCKET.

    Raises:
        AddressInUse: Another process has the address.
        CallFailed: bind(2) failed.
    """

    def __init__(
        self,
        loop: Loop,
        address: str,
        mode: int,
        may_notify: Callable[[int, int], bool],
        on_message: Callable[[Message], None],
    ) -> None:
        self._loop = loop
        self._may_notify = may_notify
        self._on_message = on_message
        self._quiet_until = 0.0
        self.address = address if address.startswith("@") else os.path.abspath(address)
        self._sock = _bound_socket(self.address, mode)
        self._file: SocketFile | None = identity_of(self._sock.getsockname())
        loop.watch(self._sock.fileno(), self.read)

    def read(self) -> None:
        """Handle the notifications that have come."""
        for _ in range(_MOST_AT_ONCE):
            try:
                message = receive(self._sock, MOST_BYTES, _DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                log.warning("cannot receive a notification: %s", error.strerror)
                return
            with message:
                self._handle(message)

    def _handle(self, message: Message) -> None:
        sender = message.credentials
        if sender is None or not self._may_notify(sender.pid, sender.uid):
            self._log_refused(message)
            return
        if message.flags & _CUT:
            log.warning(
                "ignored a notification from process %d: it is longer than %d bytes", sender.pid, MOST_BYTES
            )
            return
        if message.flags & _LOST:
            log.warning(
                "descriptors from process %d were lost (%s): raise the limit on open files (ulimit -n)",
                sender.pid,
                loss_reason(len(message)),
            )
        try:
            self._on_message(message)
        except Exception:  # a fault here must not cost the store
            log.exception("cannot handle a notification from process %d", sender.pid)

    def _log_refused(self, message: Message) -> None:
        now = time.monotonic()
        if now >= self._quiet_until and (sender := message.credentials) is not None:
            self._quiet_until = now + _QUIET_SECONDS
            log.warning(
                "refused a notification from process %d of uid %d: it is another user's (see --store-user)",
                sender.pid,
                sender.uid,
            )

    def drain(self) -> None:
        """Handle what an ended program has sent. Other processes could send for ever, so there is a bound."""
        for _ in range(_MOST_READS):
            if not _readable(self._sock):
                return
            self.read()

    def close(self) -> None:
        """Remove the socket; what waits in its queue is closed."""
        self._loop.unwatch(self._sock.fileno())
        unlink_own(self._sock, self._file)
        self._sock.close()


def _bound_socket(address: str, mode: int) -> socket.socket:
    """Make the datagram socket, which the caller owns."""
    raw = address_of(address)
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    except OSError as error:
        raise translated(error, "cannot make a socket") from error
    try:
        with translating_errors(address, "cannot receive notifications at"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # before any process can send
            if raw.startswith(b"\0"):
                sock.bind(raw)
            else:
                for seconds in bound_at_file(sock, os.fsdecode(raw), mode, None):
                    time.sleep(seconds)
    except BaseException:
        sock.close()
        raise
    return sock


def _readable(sock: socket.socket) -> bool:
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(0))
