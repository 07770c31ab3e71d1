"""``python -m fdpass.serve.worker N``: starts a worker; descriptor N is its end of the channel to the dispatcher.

The first message on the channel is SETUP, with the descriptors of the ledger, of the access log (if any) and, with
``--accept worker``, of the listeners; see `setup`.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import signal
import socket
import sys

from fdpass._ancillary import MAX_FDS
from fdpass._conversation import MAX_MESSAGE, Conversation
from fdpass.errors import PeerClosed
from fdpass.serve.shared.logs import configure
from fdpass.serve.shared.setup import Setup
from fdpass.serve.worker.preparation import prepare
from fdpass.serve.worker.worker import Worker


def main() -> None:
    """Start a worker, and run it until it has finished. Does not return."""
    faulthandler.enable()  # the dispatcher sends SIGABRT to a worker that hangs: it prints its stacks
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    channel = Conversation(sock, acknowledged=False, max_message=MAX_MESSAGE, max_fds=MAX_FDS, policy=None)
    while not channel.ready():
        channel.pull()
    try:
        setup = Setup(channel.take())
    except PeerClosed:
        return
    configure(setup.config.log_level, as_json=setup.config.log_json)
    worker = Worker(channel, setup)
    try:
        app, interface, loop_factory = prepare(setup.config)
    except BaseException as error:  # noqa: BLE001 - the dispatcher logs it
        worker.report_failure(error)
        os._exit(1)  # without waiting for threads of the application
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        status = runner.run(worker.run(app, interface))
        with contextlib.suppress(OSError):  # a full disk, or nobody reads
            sys.stdout.flush()
    os._exit(status)  # without waiting for threads that have not ended in time


if __name__ == "__main__":
    main()
