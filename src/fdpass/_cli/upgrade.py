"""``fdpass upgrade``: replace the code of a running server, and report the outcome."""

from __future__ import annotations

import secrets
import time
from typing import Any

import click

from fdpass._cli.progress import waiting
from fdpass._cli.server import control_option
from fdpass._cli.streams import echo
from fdpass.errors import FdpassError, PeerClosed, RequestFailed
from fdpass.serve.operator.client import ask

_PATIENCE = 10.0  # seconds for which a server may answer nothing: its dispatcher has died, or an exec goes on
_PAUSE = 0.05


@click.command(
    epilog="""Examples:

\b
  pip install --upgrade fdpass && fdpass upgrade
  fdpass upgrade --dispatcher-only
  fdpass upgrade --exec
  fdpass upgrade --exec --python /opt/python3.13/bin/python"""
)
@control_option
@click.option("--dispatcher-only", is_flag=True, help="Do not reload: the workers stay as they are.")
@click.option("--exec", "by_exec", is_flag=True, help="Replace the keeper and its Python, too. No rollback.")
@click.option("--python", default="", metavar="PATH", help="With --exec: run this Python interpreter.")
def upgrade(control: str, dispatcher_only: bool, by_exec: bool, python: str) -> None:
    """Replace the code of a running server by what is installed now, without losing a connection.

    The server needs a keeper. The new code is read and checked, and a new dispatcher made of it takes over. Then
    the server reloads, so that workers have the new code, too. If the new code does not start, the old one keeps
    serving; this command prints the reason, and exits with 1.

    With --exec the keeper, too, becomes the new code, and can run with another Python. A new interpreter checks
    the code and the settings first. After that there is no rollback: if the new code fails then, the server ends.
    """
    if python and not by_exec:
        raise click.UsageError("--python needs --exec: only then does the server start another Python")
    if by_exec:
        echo("the keeper is replaced too: if the new code passes its check and fails later, the server ends")
    request = {"kind": "exec" if by_exec else "dispatcher", "python": python, "number": secrets.randbits(62) or 1}
    with waiting("waiting until the new code serves"):
        _ask(control, "upgrade", **request)
        outcome = _ask(control, "upgraded", number=request["number"])
    what = "keeper and dispatcher have" if by_exec else "the dispatcher has"
    echo(
        f"{what} been upgraded from fdpass {outcome['before']} to {outcome['after']}: "
        f"{outcome['ms']:g} ms without accepting"
    )
    if dispatcher_only:
        echo("the workers still have their code: fdpass reload replaces them")
        return
    with waiting("waiting until the new workers are ready"):
        try:
            reply = _ask(control, "reload")
        except FdpassError as error:
            raise RequestFailed(f"the workers still have the old code, as the reload failed: {error}") from error
    echo(f"generation {reply['generation']} serves")


def _ask(control: str, verb: str, **arguments: Any) -> dict[str, Any]:
    """Ask a server whose dispatcher may be replaced before it replies, and then ask the next dispatcher."""
    until = time.monotonic() + _PATIENCE
    while True:
        asked = time.monotonic()
        try:
            return ask(control, verb, **arguments)
        except PeerClosed:
            if asked > until:
                raise
            if time.monotonic() - asked > 1:  # it has answered others meanwhile
                until = time.monotonic() + _PATIENCE
            time.sleep(_PAUSE)
