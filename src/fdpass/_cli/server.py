"""What the verbs that speak to a running server have in common."""

from __future__ import annotations

import click

control_option = click.option(
    "--control",
    default="",
    envvar="FDPASS_CONTROL",
    metavar="PATH",
    help="Control socket of the server, if it has its own.",
)
