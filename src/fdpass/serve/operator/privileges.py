"""Give up the rights of root: find the user and the group to switch to, and switch to them."""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Iterable

from fdpass._errors import translated
from fdpass.errors import ConfigError
from fdpass.serve.shared.config import Config

_NO_NUMBER = 2**32 - 1  # of no user: for setresuid(2) it is -1, which leaves a process root's


def identity(config: Config) -> tuple[int, int] | None:
    """Find the user and the group to switch to; None if the settings name neither.

    Raises:
        ConfigError: The user or the group does not exist, or this process is not root's.
    """
    if not (config.user or config.group):
        return None
    try:
        if (number := _number(config.user)) is not None:
            uid = number
            own = os.getegid() if uid == os.geteuid() else None
            gid = next((entry.pw_gid for entry in pwd.getpwall() if entry.pw_uid == uid), own)
        else:
            entry = pwd.getpwnam(config.user) if config.user else pwd.getpwuid(os.geteuid())
            uid, gid = entry.pw_uid, entry.pw_gid
    except KeyError:
        raise ConfigError(f"--user {config.user!r}: there is no such user") from None
    try:
        if config.group:
            number = _number(config.group)
            gid = grp.getgrnam(config.group).gr_gid if number is None else number
    except KeyError:
        raise ConfigError(f"--group {config.group!r}: there is no such group") from None
    if gid is None:  # our own would be root's
        raise ConfigError(f"--user {config.user}: the system has no group for this user: give one with --group")
    if os.geteuid() != 0 and (uid, gid) != (os.geteuid(), os.getegid()):
        raise ConfigError("--user and --group: only root can switch to another user or group")
    return uid, gid


def _number(text: str) -> int | None:
    """The number of a user or group; None if the text is a name, or the number is too large."""
    number = int(text) if re.fullmatch(r"\d{1,10}", text, re.ASCII) else _NO_NUMBER
    return number if number < _NO_NUMBER else None


def become(uid: int, gid: int, own: Iterable[str]) -> None:
    """Give up the rights of root for good, in this process and so in its workers.

    Args:
        uid: The user.
        gid: The group; the supplementary groups are those that the system lists for the user.
        own: Files to give to the user, who has to remove or open them later.

    Raises:
        CallFailed: The kernel does not permit it.
    """
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return
    try:
        for path in own:
            os.chown(path, uid, gid)
        try:
            os.initgroups(pwd.getpwuid(uid).pw_name, gid)
        except KeyError:  # the user has no entry in the system's list
            os.setgroups([gid])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise translated(error, f"cannot switch to user {uid}, group {gid}") from error
