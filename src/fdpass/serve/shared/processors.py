"""How many processors this process may use: its affinity, and the CPU quotas of its cgroups (v1 and v2).

A container's limit, such as ``docker run --cpus 1.5``, is a quota: the process sees all processors, but may use
them for only so much of each period. The formats are those of cgroups(7) and proc_pid_mountinfo(5).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

Read = Callable[[str], str]
"""Reads a whole file. Raises OSError."""


class _Mount(NamedTuple):
    """A mounted cgroup hierarchy.

    Attributes:
        root: The path in the hierarchy that is mounted.
        point: Where it is mounted.
        version: 1 or 2.
    """

    root: str
    point: str
    version: int


def processors() -> int:
    """How many processors this process may use, rounded up; at least 1."""
    # From Python 3.13 on; it also obeys -X cpu_count and PYTHON_CPU_COUNT.
    count: Callable[[], int | None] = getattr(os, "process_cpu_count", lambda: len(os.sched_getaffinity(0)))
    limit = quota(_read)
    found = count() or 1
    return found if limit is None else max(1, min(found, math.ceil(limit)))


def quota(read: Read) -> float | None:
    """The least CPU quota of this process's cgroups and of all cgroups above them, in processors.

    Args:
        read: Reads files.

    Returns:
        None if there is no quota, or none that can be read.
    """
    try:
        mounts = list(_mounts(read("/proc/self/mountinfo")))
        paths = dict(_paths(read("/proc/self/cgroup")))
    except OSError:
        return None
    quotas = [
        found
        for mount in mounts
        if (path := paths.get(mount.version)) is not None
        for folder in _folders(mount, path)
        if (found := (_quota_v1 if mount.version == 1 else _quota_v2)(folder, read)) is not None
    ]
    return min(quotas, default=None)


def _mounts(mountinfo: str) -> Iterator[_Mount]:
    """The hierarchies that can have CPU quotas."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or not kind:
            continue
        root, point = map(_unescaped, fields[3:5])
        if kind[0] == "cgroup2":
            yield _Mount(root, point, 2)
        elif kind[0] == "cgroup" and "cpu" in kind[-1].split(","):
            yield _Mount(root, point, 1)


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)


def _paths(cgroup: str) -> Iterator[tuple[int, str]]:
    """The path of this process's cgroup, by version."""
    for line in cgroup.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield 2, path
        elif "cpu" in controllers.split(","):
            yield 1, path


def _folders(mount: _Mount, path: str) -> Iterator[str]:
    """The folder of a cgroup, and those of all cgroups above it that are mounted."""
    root = mount.root.rstrip("/")
    # A container often has its own cgroup mounted, while its path is the host's, or of another namespace (/..).
    inside = path.removeprefix(root) if f"{path}/".startswith(f"{root}/") and "/.." not in path else ""
    parts = [part for part in inside.split("/") if part]
    for count in range(len(parts), -1, -1):
        yield "/".join([mount.point.rstrip("/"), *parts[:count]])


def _quota_v2(folder: str, read: Read) -> float | None:
    return _ratio(read, f"{folder}/cpu.max")


def _quota_v1(folder: str, read: Read) -> float | None:
    return _ratio(read, f"{folder}/cpu.cfs_quota_us", f"{folder}/cpu.cfs_period_us")


def _ratio(read: Read, *files: str) -> float | None:
    """Quota by period; None without a quota: ``max`` in v2, -1 in v1, and no file in the root."""
    try:
        quota, period, *_ = " ".join(map(read, files)).split()
        found = int(quota) / int(period)
    except (OSError, ValueError, ArithmeticError):
        return None
    return found if found > 0 else None


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
