"""``fdpass stop``: stop a running server, and wait for its end."""

from __future__ import annotations

import select

import click

from fdpass._cli.common import Deadline, Failure, seconds
from fdpass._cli.progress import waiting
from fdpass._cli.server import control_option
from fdpass.serve.operator.client import ask_through, connected


@click.command()
@control_option
@click.option("--now", is_flag=True, help="Cut the requests in progress instead of finishing them.")
@click.option("--timeout", type=seconds, metavar="SECONDS", help="Fail if the server has not ended in this time.")
def stop(control: str, now: bool, timeout: float | None) -> None:
    """Make a running server finish its requests in progress and end, and wait until it has ended."""
    deadline = Deadline(timeout)
    with connected(control) as channel, waiting("waiting until the server has ended"):
        pidfd = channel.peer.pidfd
        channel.settimeout(deadline.left())
        ask_through(channel, "stop", now=now)
        if pidfd is None:  # Linux before 6.5: wait for the end of the channel, just before that of the process
            list(channel)
            return
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        left = deadline.left()
        if not poller.poll(None if left is None else left * 1000):
            raise Failure(f"the server has not ended within {timeout:g} s; fdpass stop --now ends it at once")
