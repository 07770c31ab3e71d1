"""How many processors this process may use, from faked files of cgroups v1 and v2."""

import os
import subprocess
import sys

import pytest

from fdpass.serve.shared import processors as module
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.processors import processors, quota

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)
CPU = "/sys/fs/cgroup/cpu,cpuacct"


def reading(files):
    """Reads these files, and no others."""

    def read(path):
        try:
            return files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    return read


def v2(path, mountinfo=V2, **quotas):
    """Files of a process in this cgroup; ``quotas`` are of folders, as ``app_slice`` for app.slice."""
    found = {"/proc/self/cgroup": f"0::{path}\n", "/proc/self/mountinfo": mountinfo}
    return found | {f"/sys/fs/cgroup{folder}/cpu.max": text for folder, text in quotas.items()}


def v1(path, mountinfo=V1, **quotas):
    """Likewise; ``quotas`` are pairs of quota and period."""
    text = f"9:name=systemd:/\n4:cpu,cpuacct:{path}\n3:cpuset:/other\n0::/\n"
    found = {"/proc/self/cgroup": text, "/proc/self/mountinfo": mountinfo}
    for folder, (limit, period) in quotas.items():
        found[f"{CPU}{folder}/cpu.cfs_quota_us"] = f"{limit}\n"
        found[f"{CPU}{folder}/cpu.cfs_period_us"] = f"{period}\n"
    return found


CASES = {
    "v2, container": (v2("/", **{"": "150000 100000\n"}), 1.5),
    "v2, unlimited": (v2("/", **{"": "max 100000\n"}), None),
    "v2, root of the machine, which has no file": (v2("/"), None),
    "v2, the least on the way up": (
        v2("/a/b/c", **{"/a": "200000 100000", "/a/b": "max 100000", "/a/b/c": "800000 100000"}),
        2.0,
    ),
    "v2, its own cgroup is mounted, and its path is the host's": (
        v2("/docker/7f", V2.replace("0:26 / ", "0:26 /docker/7f "), **{"": "50000 100000"}),
        0.5,
    ),
    "v2, its path is in another namespace": (v2("/../../other", **{"": "300000 100000"}), 3.0),
    "v2, a name with a space": (
        v2("/a b", V2.replace("0:26 / ", "0:26 /a\\040b "), **{"": "100000 100000"}),
        1.0,
    ),
    "v2, nonsense in the file": (v2("/", **{"": "much\n"}), None),
    "v2, a period of 0": (v2("/", **{"": "100000 0\n"}), None),
    "v1, container": (v1("/docker/7f", V1.replace("0:29 / ", "0:29 /docker/7f "), **{"": (250000, 100000)}), 2.5),
    "v1, unlimited": (v1("/", **{"": (-1, 100000)}), None),
    "v1, the least on the way up": (v1("/a/b", **{"": (-1, 1), "/a": (400000, 100000), "/a/b": (-1, 1)}), 4.0),
    "both versions are mounted": (
        v2("/x", V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified") + V1)
        | v1("/", V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified") + V1, **{"": (100000, 100000)})
        | {"/sys/fs/cgroup/unified/cpu.max": "700000 100000"},
        1.0,
    ),
    "v1 without the controller of processors": (v1("/", V1.splitlines()[2]), None),
    "no files": ({}, None),
    "lines that are not those of the man page": (
        {"/proc/self/cgroup": "x\n\n", "/proc/self/mountinfo": "x - \n"},
        None,
    ),
}


@pytest.mark.parametrize(("files", "expected"), CASES.values(), ids=CASES)
def test_the_quota_is_the_least_of_all_cgroups_up_to_the_root(files, expected):
    assert quota(reading(files)) == expected


def test_a_quota_that_is_no_float_is_none():
    files = {
        "/proc/self/mountinfo": "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        "/proc/self/cgroup": "0::/\n",
        "/sys/fs/cgroup/cpu.max": "9" * 400 + " 1\n",
    }
    assert quota(reading(files)) is None


@pytest.mark.parametrize(
    ("limit", "count", "expected"),
    [(None, 8, 8), (0.5, 8, 1), (2.0, 8, 2), (2.1, 8, 3), (16.0, 8, 8), (None, None, 1)],
)
def test_a_quota_is_rounded_up_and_adds_no_processor(monkeypatch, limit, count, expected):
    monkeypatch.setattr(module, "quota", lambda _: limit)
    monkeypatch.setattr(os, "process_cpu_count", lambda: count, raising=False)
    assert processors() == expected


def test_without_a_quota_the_affinity_counts():
    """In a process of its own, which gives up all processors but one."""
    one = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, [{one}])\n"
        "from fdpass.serve.shared.processors import processors; print(processors())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


def test_the_default_number_of_workers_is_that_of_the_processors_and_at_least_2(monkeypatch):
    for count, workers in ((7, 7), (1, 2)):
        monkeypatch.setattr("fdpass.serve.shared.config.processors", lambda count=count: count)
        assert Config().workers == workers
