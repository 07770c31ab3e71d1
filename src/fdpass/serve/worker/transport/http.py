"""`HttpTransport`: the transport of `HttpProtocol` for a connection that is not in custody, and not TLS."""

from __future__ import annotations

import errno
import os
import select
import socket
from typing import Any

from fdpass.serve.worker.http.wire import EXTENSIONS
from fdpass.serve.worker.transport.base import NOW, Transport
from fdpass.serve.worker.transport.lingering import Lingering, end_sending

_OUT = select.EPOLLOUT
_OF_THE_FILE = {errno.EINVAL, errno.EIO, errno.EOVERFLOW}  # sendfile(2): not of the connection
_MORE_COMES = NOW | int(socket.MSG_MORE)


class HttpTransport(Transport):
    """See `fdpass.serve.worker.http.wire.Wire`."""

    __slots__ = ()
    extensions = EXTENSIONS

    def called(self, scope: dict[str, Any]) -> None:
        """See `Wire`."""

    def announce(self, count: int, *, last: bool) -> None:
        """See `Wire`."""

    def respond(self, data: bytes, last: bool) -> None:
        """See `Wire`. If the connection ends, the data and its end are one packet."""
        if not last:
            self.write(data)
            return
        self.write(data, _MORE_COMES)
        if self._backlog:
            self.close()
        elif self._stop():
            # At once: for this the kernel holds the data back, for 200 ms at most.
            if self._lingers:
                end_sending(self.passed)
            else:
                self.passed.shut_down()
            self._over(None)

    def _settled(self) -> None:
        settled = getattr(self._protocol, "settled", None)
        if settled is not None:  # the protocol of a WebSocket has none
            settled()

    def linger(self) -> None:
        """See `Wire`."""
        self._lingers = True

    def abort(self) -> None:
        """See `asyncio.WriteTransport`."""
        self._lingers = False
        super().abort()

    def _linger(self) -> None:
        if self.passed.returned:
            self.passed.close()
            return
        end_sending(self.passed)
        Lingering(self._poller, self.passed)

    def send_file(self, number: int, offset: int, count: int) -> int:
        """See `Wire`."""
        if self._ending:
            return 0
        if self._backlog:  # the connection may be closing, too: it ends when this is sent
            self._wait_for_client()
            return 0
        self.passed.setblocking(False)  # sendfile(2) knows no MSG_DONTWAIT
        try:
            sent = os.sendfile(self._number, number, offset, count)
        except BlockingIOError:
            self._wait_for_client()
            return 0
        except OSError as error:
            if error.errno in _OF_THE_FILE:
                raise
            self._end(error)
            return 0
        if not sent:
            raise EOFError("the file became shorter while it was sent")
        self._wrote += sent
        return sent

    def _wait_for_client(self) -> None:
        self._watch(self._wanted | _OUT)
        if not self._full:
            self._full = True
            self._protocol.pause_writing()

    def cut(self, *, reset: bool) -> None:
        """See `Wire`."""
        if reset:
            self.passed.reset()
            self._end(None)
        else:
            self.close()

    @property
    def is_resumable(self) -> bool:
        """See `Wire`."""
        return False

    def hand_over(self, websockets: Any, protocol: Any, handshake: bytes) -> bool:  # noqa: ARG002 - not in custody
        """See `Wire`."""
        return False

    def leave(self) -> bool:
        """See `Wire`."""
        return False

    def move(self) -> bool:
        """See `Wire`."""
        return False
