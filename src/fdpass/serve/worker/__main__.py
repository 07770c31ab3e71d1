"""``python -m fdpass.serve.worker N``: starts a worker; descriptor N is its end of the channel to the dispatcher.

The first message on the channel is SETUP, with the descriptors of the ledger, of the access log (if any) and, with
``--accept worker``, of the listeners; see `setup`.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import socket
import sys

from fdpass._ancillary import MAX_FDS
from fdpass._conversation import Conversation
from fdpass._options import MAX_MESSAGE
from fdpass.errors import PeerClosed
from fdpass.serve.shared import roles
from fdpass.serve.shared.logs import configure
from fdpass.serve.shared.setup import Setup
from fdpass.serve.worker.forks import FORKS
from fdpass.serve.worker.leaving import EXIT_SECONDS, Leaving, do_nothing
from fdpass.serve.worker.preparation import prepare
from fdpass.serve.worker.process_name import set_name
from fdpass.serve.worker.worker import Worker


def main() -> int:
    """Start a worker, and run it until it has finished. Returns the exit code."""
    roles.take("worker", score=roles.BEHIND)
    leaving = Leaving()
    set_name(sys.argv[2], "fdpass-worker")
    faulthandler.enable()  # the dispatcher sends SIGABRT to a worker that hangs: it prints its stacks
    signal.signal(signal.SIGINT, do_nothing)
    FORKS.add_handler(signal.SIGINT)
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    FORKS.install(sock.fileno())
    channel = Conversation(sock, acknowledged=False, max_message=MAX_MESSAGE, max_fds=MAX_FDS, policy=None)
    while not channel.ready():
        channel.pull()
    try:
        setup = Setup(channel.take())
    except PeerClosed:
        return 0
    FORKS.add_memory(setup.memories)
    FORKS.numbers.update(each.fileno() for each in setup.listeners)
    worker = Worker(channel, setup)
    try:
        return _run(worker, setup, leaving)
    except BaseException as error:
        FORKS.end_child(error)
        raise
    finally:
        sock.detach()  # open until the process has ended, and no ResourceWarning where warnings are on


def _run(worker: Worker, setup: Setup, leaving: Leaving) -> int:
    config = setup.config
    fields = {"event": "other", "worker": os.getpid(), "generation": setup.generation}
    try:
        configure(config.log_level, as_json=config.log_json, file=config.log_config, fields=fields)
        app, interface, loop_factory = prepare(config)
    except BaseException as error:  # noqa: BLE001 - the dispatcher logs it
        FORKS.end_child(error)
        worker.report_failure(error)
        leaving.start(1, EXIT_SECONDS)
        return 1
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        status = runner.run(worker.run(app, interface))
        leaving.start(status, worker.seconds_left)
    FORKS.drop_loop()
    return status


if __name__ == "__main__":
    # SystemExit must not keep a frame that refers to the application, whose files would not be flushed.
    sys.exit(main())
