"""`start`: starts the program with its descriptors; `Program`: its process, which can be signalled and reaped.

The program is started by fork(2) and execve(2), and not by `subprocess`, because LISTEN_PID has to be its own
number. The process that forks has one thread.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from typing import NoReturn

from fdpass._errors import translated
from fdpass._fd import Fd
from fdpass._supervision.orphans import end_with_parent
from fdpass._supervision.placing import FIRST, place


class Program:
    """A process of the program.

    Attributes:
        pid: Its number. If it is a child of this process, no other process can get the number before `reap`.
        pidfd: Readable once the process has ended. Owned: `close` closes it.

    Raises:
        CallFailed: pidfd_open(2) failed: the process has ended and was reaped, or EMFILE.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self.pidfd = Fd(os.pidfd_open(pid))
        except OSError as error:
            raise translated(error, f"cannot watch process {pid}") from error

    def signal(self, number: int) -> None:
        """Send a signal to the process. If the process has ended, nothing happens."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd.fileno(), number)

    def signal_group(self, number: int) -> None:
        """Send a signal to the group of the process, if the process is not reaped yet."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            group = os.getpgid(self.pid)
            if group != os.getpgrp():
                os.killpg(group, number)

    def reap(self) -> int | None:
        """Reap the process, which has ended.

        Returns:
            Its exit code, or minus the number of the signal; None if the process is not a child of this one.
        """
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:
            return None

    def close(self) -> None:
        """Close the pidfd. A second call does nothing."""
        self.pidfd.close()


def start(
    command: Sequence[str],
    fds: Sequence[tuple[str, Fd]],
    environment: Mapping[str, str],
    *,
    most_files: int,
) -> Program:
    """Start the program, in a process group of its own.

    Args:
        command: Name or path of the program, and its arguments.
        fds: The descriptors from number 3 on, with their names. Lent.
        environment: The variables of the program, without those of socket activation.
        most_files: The soft limit of the program on open files.

    Raises:
        CallFailed: The program cannot be run (`NotFound`, `NotPermitted`), or fork(2) failed.
    """
    try:
        reading, writing = map(Fd, os.pipe())
    except OSError as error:
        raise translated(error, f"cannot start {command[0]}") from error
    with reading, writing:
        everything = signal.valid_signals()
        before, parent = signal.pthread_sigmask(signal.SIG_BLOCK, everything), os.getpid()
        try:
            pid = os.fork()
            if pid == 0:
                _become(command, fds, environment, writing, most_files, parent)
        except OSError as error:
            raise translated(error, f"cannot start {command[0]}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        writing.close()
        failure = os.read(reading.fileno(), 16)  # empty once execve(2) has closed the other end
    if failure:
        os.waitpid(pid, 0)
        number = int(failure)
        raise translated(OSError(number, os.strerror(number)), f"cannot run {command[0]}")
    try:
        return Program(pid)
    except BaseException:  # EMFILE: a program that cannot be watched must not run
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _become(  # noqa: PLR0917 - what `start` was given, and what the child needs besides
    command: Sequence[str],
    fds: Sequence[tuple[str, Fd]],
    environment: Mapping[str, str],
    failure: Fd,
    most_files: int,
    parent: int,
) -> NoReturn:
    """Be the child: replace this process by the program, or report the number of the error."""
    report = failure.fileno()
    try:
        os.setpgid(0, 0)
        end_with_parent(parent, signal.SIGTERM)
        if os.isatty(0):  # a process group in the background gets SIGTTIN when it reads from its terminal
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        end = FIRST + len(fds)
        report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, end)
        place([fd.fileno() for _, fd in fds])  # this process has copies of the numbers that it is lent
        os.dup2(report, end, inheritable=False)
        report = end
        os.closerange(end + 1, os.sysconf("SC_OPEN_MAX"))  # also those that this process inherited itself
        _restore_signals()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (_least(most_files, hard), hard))
        os.execvpe(command[0], list(command), _with_own_pid(environment, fds))  # noqa: S606 - no shell is wanted
    except BaseException as error:  # noqa: BLE001 - this process has nothing else to do
        os.write(report, str(error.errno if isinstance(error, OSError) else errno.EINVAL).encode())
    finally:
        os._exit(127)


def _least(soft: int, hard: int) -> int:
    """The lower of two limits, where -1 is infinity."""
    return hard if soft == resource.RLIM_INFINITY or 0 <= hard < soft else soft


def _with_own_pid(environment: Mapping[str, str], fds: Sequence[tuple[str, Fd]]) -> dict[str, str]:
    """Add the variables that name this process: of sd_listen_fds(3), and of sd_watchdog_enabled(3)."""
    variables = dict(environment)
    pid = str(os.getpid())
    if "WATCHDOG_USEC" in variables:
        variables["WATCHDOG_PID"] = pid
    if fds:
        names = ":".join(name for name, _ in fds)
        variables |= {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": names, "LISTEN_PID": pid}
    return variables


def _restore_signals() -> None:
    """Unblock all signals, and give them their default actions, but for those that nohup or a shell ignores."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        # Python ignores these two, and exec(2) keeps what is ignored.
        if signal.getsignal(number) is not signal.SIG_IGN or number in {signal.SIGPIPE, signal.SIGXFSZ}:
            with contextlib.suppress(OSError, ValueError):  # SIGKILL, SIGSTOP
                signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def describe(status: int | None) -> str:
    """What `Program.reap` returned, in words: ``exit code 1``, ``killed by SIGKILL``."""
    if status is None:
        return "exit code unknown"
    if status >= 0:
        return f"exit code {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
