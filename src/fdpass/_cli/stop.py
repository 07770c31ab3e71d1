"""``fdpass stop``: finish, and end."""

from __future__ import annotations

import json
import select

import click

from fdpass._cli.common import Deadline, Failure, seconds
from fdpass._cli.server import control_option
from fdpass.serve.operator.client import connected


@click.command()
@control_option
@click.option("--now", is_flag=True, help="At once: what is in progress is cut.")
@click.option("--timeout", type=seconds, metavar="SECONDS", help="Fail if it has not ended after so long.")
def stop(control: str, now: bool, timeout: float | None) -> None:
    """Let a running server finish what is in progress, and wait until it has ended."""
    deadline = Deadline(timeout)
    with connected(control) as channel:
        pidfd = channel.peer.pidfd
        channel.settimeout(deadline.left())
        channel.send(json.dumps({"do": "stop", "now": now}).encode())
        channel.recv().close()
        if pidfd is None:  # Linux before 6.5: the channel's end is not quite the process's
            list(channel)
            return
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        left = deadline.left()
        if not poller.poll(None if left is None else left * 1000):
            raise Failure("the server has not ended in this time; fdpass stop --now ends it at once")
