"""What a server takes from its machine: room for descriptors, another user's rights, a pidfile, the access log."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import resource
from collections.abc import Iterable, Iterator

from fdpass.errors import ConfigError, translated
from fdpass.fd import Fd
from fdpass.serve.config import Config
from fdpass.serve.ledger import RING
from fdpass.serve.slots import BUFFER_SIZE, MOST_BUFFERS, SLOT_SIZE

_OWN = 256  # descriptors that a process keeps for itself: libraries, files, databases


def room_for_descriptors() -> int:
    """Raise the limit on open files to what is allowed, for the workers too; return how many connections a process
    may have, after what it needs for itself.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 2**20  # fs.nr_open, as a rule
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - min(_OWN, soft // 2))


def most_connections(config: Config, capacity: int) -> int:
    """How many connections may live at once.

    Args:
        config: What was asked for.
        capacity: What one process may have.

    Raises:
        ConfigError: More was asked for than fits, and the numbers.
    """
    fits = capacity if config.keeps else capacity * config.workers
    if config.max_connections > fits:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if config.keeps:
            raise ConfigError(
                f"--max-connections {config.max_connections:,} cannot fit: the dispatcher keeps a duplicate of "
                f"each, may have {limit:,} open files (ulimit -Hn), and needs {limit - capacity:,} for itself; "
                "raise the limit, or use --custody off"
            )
        raise ConfigError(
            f"--max-connections {config.max_connections:,} cannot fit: a process may have {limit:,} open files "
            f"(ulimit -Hn) and needs {limit - capacity:,} for itself, so {config.workers} worker(s) can have "
            f"{fits:,} connections; raise the limit, or have more workers"
        )
    most = config.max_connections or fits
    if config.keeps and (needed := most_memory(config, most)) > (there := _memory()):
        raise ConfigError(
            f"{most:,} connections and {config.workers + config.spare} workers can need {needed >> 20:,} MiB of "
            f"shared memory, and there are {there >> 20:,}: lower --max-connections, or use --custody off"
        )
    return most


def buffers_each(config: Config) -> int:
    """How many receive buffers each worker has: in all up to `MOST_BUFFERS`, and an eighth of the memory."""
    most = min(MOST_BUFFERS, _memory() // 8 // BUFFER_SIZE, config.max_connections or MOST_BUFFERS)
    return max(16, most // (config.workers + config.spare))


def most_memory(config: Config, most: int) -> int:
    """The most bytes of shared memory that custody of so many connections can take, the ledger included."""
    workers = config.workers + config.spare
    return SLOT_SIZE * most + BUFFER_SIZE * buffers_each(config) * workers + RING * 8 * workers


def _memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")


def identity(config: Config) -> tuple[int, int] | None:
    """The user and the group to become; None if neither is named.

    Raises:
        ConfigError: There is no such user or group, or only root may become another.
    """
    if not (config.user or config.group):
        return None
    try:
        if config.user.isdigit():
            uid = int(config.user)
            own = os.getegid() if uid == os.geteuid() else None
            gid = next((entry.pw_gid for entry in pwd.getpwall() if entry.pw_uid == uid), own)
        else:
            entry = pwd.getpwnam(config.user) if config.user else pwd.getpwuid(os.geteuid())
            uid, gid = entry.pw_uid, entry.pw_gid
    except KeyError:
        raise ConfigError(f"--user {config.user!r}: there is no such user") from None
    try:
        if config.group:
            gid = int(config.group) if config.group.isdigit() else grp.getgrnam(config.group).gr_gid
    except KeyError:
        raise ConfigError(f"--group {config.group!r}: there is no such group") from None
    if gid is None:  # not ours: that would be root's
        raise ConfigError(f"--user {config.user}: the system knows no group of this user: give --group")
    if os.geteuid() != 0 and (uid, gid) != (os.geteuid(), os.getegid()):
        raise ConfigError("--user and --group: only root can become another user")
    return uid, gid


def become(uid: int, gid: int, own: Iterable[str]) -> None:
    """Give up the rights of root for good, in this process and so in the workers.

    Args:
        uid: The user.
        gid: The group; of the user's other groups, those that the system lists.
        own: Files that shall be the user's, to be removed or opened again later.

    Raises:
        CallFailed: The system does not permit it.
    """
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return
    try:
        for path in own:
            os.chown(path, uid, gid)
        try:
            os.initgroups(pwd.getpwuid(uid).pw_name, gid)
        except KeyError:  # a number without a name
            os.setgroups([gid])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise translated(error, f"cannot become user {uid}, group {gid}") from error


@contextlib.contextmanager
def pidfile(path: str) -> Iterator[None]:
    """Have our process number in a file, if a path is given. It is removed if it is still ours.

    Raises:
        CallFailed: It cannot be written.
    """
    if not path:
        yield
        return
    text = f"{os.getpid()}\n"
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        raise translated(error, f"cannot write the pidfile {path}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
            if file.read() == text:
                os.unlink(path)


def open_log(path: str) -> Fd | None:
    """The access log, to be appended to: ``-`` is standard output, "" is none. You own it.

    Raises:
        CallFailed: It cannot be opened.
    """
    if not path:
        return None
    try:
        if path == "-":
            return Fd(os.dup(1))
        return Fd(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640))
    except OSError as error:
        raise translated(error, f"cannot open the access log {path}") from error
