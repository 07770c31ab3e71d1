"""Run a command with descriptors, by the convention of socket activation: sd_listen_fds(3).

The command has them from number 3 on, with LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES (their kinds) in its
environment. ``{}`` in its arguments becomes ``/dev/fd/3``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import NoReturn

from fdpass._cli.common import Failure
from fdpass._fd import Fd
from fdpass._supervision.placing import FIRST, place


def run(command: Sequence[str], fds: Sequence[Fd], *, stdin: bool, environment: Mapping[str, str]) -> NoReturn:
    """Replace this process with the command.

    Args:
        command: The command's name or path, and its arguments.
        fds: The descriptors. Taken.
        stdin: Whether the first is also the standard input.
        environment: Variables to add to the environment.

    Raises:
        Failure: The command cannot be run.
    """
    variables = {
        **environment,
        "LISTEN_FDS": str(len(fds)),
        "LISTEN_PID": str(os.getpid()),  # exec(2) keeps the PID
        "LISTEN_FDNAMES": ":".join(fd.kind for fd in fds),
    }
    os.environ.pop("LISTEN_PIDFDID", None)  # it names a process that had descriptors before
    place([fd.take() for fd in fds])
    if stdin:
        os.dup2(FIRST, 0)
    arguments = [argument.replace("{}", f"/dev/fd/{FIRST}") for argument in command]
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores these two, and exec(2) keeps what is ignored
    try:
        os.execvpe(arguments[0], arguments, {**os.environ, **variables})  # noqa: S606 - no shell is wanted
    except OSError as error:
        raise Failure(f"cannot run {arguments[0]}: {error.strerror}") from error
