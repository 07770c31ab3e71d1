"""``fdpass completion``: the script with which a shell completes verbs, options and values."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from fdpass._cli.streams import echo

_VARIABLE = "_FDPASS_COMPLETE"  # with which click is asked for completions


@click.command(
    epilog="""Examples:

\b
  fdpass completion bash > ~/.local/share/bash-completion/completions/fdpass
  fdpass completion zsh > ~/.zfunc/_fdpass       (a folder of $fpath)
  fdpass completion fish > ~/.config/fish/completions/fdpass.fish"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete the commands of fdpass: bash, zsh or fish."""
    kind = get_completion_class(shell)
    assert kind is not None, shell
    maker = kind(ctx.find_root().command, {}, "fdpass", _VARIABLE)
    # Not `maker.source`, which runs bash to check its version.
    echo((maker.source_template % maker.source_vars()).strip())
