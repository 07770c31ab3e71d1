"""Another user's rights: which user and group to become, and becoming them."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable

from fdpass._errors import translated
from fdpass.errors import ConfigError
from fdpass.serve.shared.config import Config


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
