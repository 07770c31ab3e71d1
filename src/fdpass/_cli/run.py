"""Run a command with descriptors, by the convention of socket activation: sd_listen_fds(3).

The command has them from number 3 on, with LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES (their kinds) in its
environment. ``{}`` in its arguments becomes ``/dev/fd/3``.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Mapping, Sequence
from typing import NoReturn

from fdpass._cli.common import Failure
from fdpass._fd import Fd

FIRST = 3  # SD_LISTEN_FDS_START


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


def place(numbers: list[int]) -> None:
    """Move owned descriptors to 3, 4, 5, ..., and make them inheritable.

    Other descriptors at these numbers are closed. A descriptor whose number is the target of an earlier one is
    duplicated to a free number first.
    """
    for index in range(len(numbers)):
        source, target = numbers[index], FIRST + index
        if source == target:
            os.set_inheritable(target, True)
            continue
        if target in numbers[index + 1 :]:
            numbers[numbers.index(target, index + 1)] = fcntl.fcntl(target, fcntl.F_DUPFD_CLOEXEC, target + 1)
        os.dup2(source, target)
        os.close(source)
