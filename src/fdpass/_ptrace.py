"""Says in words which rule of the kernel forbids access to another process: ptrace(2), "access mode checking".

The kernel reports EPERM or EACCES for all rules alike. So this module looks at what /proc shows of both processes.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

_CAP_SYS_PTRACE = 1 << 19
_MACHINE = "pid:[4026531836]"  # PROC_PID_INIT_INO of include/linux/proc_ns.h
_YAMA = "/proc/sys/kernel/yama/ptrace_scope"
_SCOPES = {
    1: "kernel.yama.ptrace_scope is 1, so only its ancestors may: be root (sudo), or set it to 0",
    2: "kernel.yama.ptrace_scope is 2, so only root may (CAP_SYS_PTRACE): use sudo",
    3: "kernel.yama.ptrace_scope is 3, so no process may; only a reboot changes that",
}

Read = Callable[[str], str]


def read(path: str) -> str:
    """The text of a file in /proc; an empty string if it cannot be read. A parameter of `refusal`, for tests."""
    try:
        return os.readlink(path) if "/ns/" in path else Path(path).read_text(errors="replace")
    except OSError:
        return ""


def refusal(pid: int, *, attach: bool, read: Read = read) -> str:
    """Say which rule refuses this process access to another one, and what to do.

    Args:
        pid: The other process.
        attach: True for access that changes the process or copies from it (`grab`), which Yama limits, too; False
            for reading.
        read: Returns the text of a file, and what a symlink in /proc/PID/ns points to.
    """
    ours, theirs = _status(read("/proc/self/status")), _status(read(f"/proc/{pid}/status"))
    scope = read(_YAMA).strip()
    if attach and scope == "3":
        return _SCOPES[3]
    if int(ours.get("CapEff", "0"), 16) & _CAP_SYS_PTRACE:
        return _although_privileged(pid, read)
    if not ours:  # /proc is not mounted
        return "be its user, or root (CAP_SYS_PTRACE), and see kernel.yama.ptrace_scope"
    users, groups = set(theirs.get("Uid", "").split()[:3]), set(theirs.get("Gid", "").split()[:3])
    # A copy is checked with the real user, and reading with the one of the file system.
    ours_user, ours_group = (ours.get(name, "").split()[0 if attach else 3] for name in ("Uid", "Gid"))
    if not users:
        return "processes of other users are hidden (hidepid of proc(5)): be its user, or root (CAP_SYS_PTRACE)"
    if users != {ours_user}:
        return f"it belongs to {_names(users)}, and you are {_names({ours_user})}: {_remedy(ours_user)}"
    if groups != {ours_group}:
        return f"it has another group than you ({_list(groups)}, not {ours_group}): {_remedy(ours_user)}"
    if attach and scope in {"1", "2"}:
        return _SCOPES[int(scope)]
    if int(theirs.get("CapPrm", "0"), 16) & ~int(ours.get("CapPrm", "0"), 16):
        return f"it has more capabilities than you: {_remedy(ours_user)}"
    return (
        "it has changed its user, runs a program that you may not read, or has protected itself "
        f"(PR_SET_DUMPABLE); or a security module (SELinux, AppArmor) forbids it: {_remedy(ours_user)}"
    )


def _although_privileged(pid: int, read: Read) -> str:
    theirs, ours = read(f"/proc/{pid}/ns/user"), read("/proc/self/ns/user")
    if theirs == ours:
        return "you have CAP_SYS_PTRACE, but a security module (SELinux, AppArmor) or a seccomp filter forbids it"
    return (
        "you have CAP_SYS_PTRACE, but not in the user namespace of the process, which is another one: run the "
        "command in its container, or as root of the machine"
    )


def _remedy(user: str) -> str:
    if user == "0":  # root of a container, as a rule
        return "you are root, but without CAP_SYS_PTRACE (in a container: docker run --cap-add SYS_PTRACE)"
    return "be its user, or root (CAP_SYS_PTRACE)"


def _status(text: str) -> dict[str, str]:
    fields = (line.partition(":") for line in text.split("\n"))
    return {name: value.strip() for name, colon, value in fields if colon}


def _names(users: set[str]) -> str:
    return "user " + _list({_name(user) for user in users})


def _name(user: str) -> str:
    try:
        return pwd.getpwuid(int(user)).pw_name
    except (KeyError, ValueError):
        return user


def _list(words: set[str]) -> str:
    return " and ".join(sorted(words))


def hidden(read: Read = read) -> str:
    """A remark for "no such process", if this process is not in the machine's own PID namespace; else empty."""
    if read("/proc/self/ns/pid") in {"", _MACHINE}:
        return ""
    return "; processes outside this PID namespace (a container) cannot be seen, and have other numbers"
