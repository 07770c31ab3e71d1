"""The option ``--control``, of every verb that connects to a running server."""

from __future__ import annotations

import click

control_option = click.option(
    "--control",
    default="",
    envvar="FDPASS_CONTROL",
    metavar="PATH",
    help="Control socket of the server, if it is not the default one.",
)
