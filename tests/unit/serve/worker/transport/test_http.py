"""The transport of HTTP: what it does with a file while it is closing."""

import asyncio
import contextlib
import socket

from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.poller import Poller
from fdpass.serve.worker.transport.http import HttpTransport


class Pauses(asyncio.Protocol):
    """A protocol that notes whether it is told to pause."""

    paused = False

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False


def test_a_file_waits_for_the_client_while_the_transport_closes(tmp_path):
    """Else its sender would try again and again, as long as a client that has half-closed does not read."""
    path = tmp_path / "file"
    path.write_bytes(b"file")

    async def main():
        ours, theirs = socket.socketpair()
        protocol = Pauses()
        with contextlib.closing(Poller(asyncio.get_running_loop())) as poller, theirs, path.open("rb") as file:
            transport = HttpTransport(poller, PassedSocket(ours.detach(), 1, lambda _: None))
            transport.start(protocol)
            while transport.get_write_buffer_size() < 1000:
                transport.write(bytes(1000))
            assert not protocol.paused
            transport.close()
            assert transport.send_file(file.fileno(), 0, 4) == 0
            assert protocol.paused
            transport.abort()
            assert transport.send_file(file.fileno(), 0, 4) == 0
            await asyncio.sleep(0)

    asyncio.run(main())
