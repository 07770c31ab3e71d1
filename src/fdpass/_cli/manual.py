"""``python -m fdpass._cli.manual``: prints the man page of the command, fdpass(1), made of its help texts."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

import fdpass
from fdpass._cli import main

_ABOUT = "pass open files and sockets between processes, and serve with several processes"
_END = r"""
.SH EXIT STATUS
0: done. 1: failed; a sentence on standard error says why. 2: wrong usage. A command that a signal stops is killed
by that signal.
.SH SEE ALSO
.BR sendmsg (2),
.BR unix (7),
.BR systemd.socket (5)
"""


def page() -> str:
    """Return the page in the language of man(7)."""
    ctx = click.Context(main, info_name="fdpass")
    head = f'.TH FDPASS 1 "" "fdpass {fdpass.__version__}" "User Commands"\n'
    text = f"{head}.SH NAME\nfdpass \\- {_ABOUT}\n.SH SYNOPSIS\n.B fdpass\n.I COMMAND\n[\\fIOPTIONS\\fR] ...\n"
    text += f".SH DESCRIPTION\n{_prose(main.help)}{_prose(main.epilog)}"
    return text + ".SH COMMANDS\n" + "".join(_of_command(ctx, main)) + _END.lstrip("\n")


def _of_command(parent: click.Context, group: click.Group) -> Iterator[str]:
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        if command is None or command.hidden:
            continue
        ctx = click.Context(command, info_name=name, parent=parent)
        usage = " ".join(command.collect_usage_pieces(ctx))
        yield f".SS {_escaped(ctx.command_path)}\n"
        if isinstance(command, click.Group):
            yield _prose(command.help)
            yield from _of_command(ctx, command)
            continue
        yield f".B {_escaped(ctx.command_path)}\n{_line(usage)}\n{_prose(command.help)}"
        for parameter in command.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and record[1] and "--help" not in parameter.opts:
                yield f".TP\n.B {_escaped(record[0])}\n{_line(record[1])}\n"
        yield _prose(command.epilog)


def _prose(text: str | None) -> str:
    """Write paragraphs; one that begins with a backspace, as click has it, keeps its lines."""
    found = ""
    for paragraph in re.split(r"\n\s*\n", (text or "").strip()):
        if paragraph.startswith("\b"):
            lines = "\n".join(_line(each, strip=False) for each in paragraph.splitlines()[1:])
            found += f".PP\n.nf\n{lines}\n.fi\n"
        elif paragraph:
            found += f".PP\n{_line(' '.join(paragraph.split()))}\n"
    return found


def _line(text: str, *, strip: bool = True) -> str:
    """Write a line of text, which must not begin with a dot or an apostrophe: these are requests."""
    found = _escaped(text.strip() if strip else text)
    return "\\&" + found if found.startswith((".", "'")) else found


def _escaped(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - the page is the output
