"""`_ptrace`: each rule that refuses access to another process is told apart by what /proc shows."""

import os

import pytest

from fdpass import _ptrace

ALL = "000001ffffffffff"
NO_PTRACE = "00000000a80425fb"  # what a container has by default


def status(user, *, group=None, effective="0", permitted="0"):
    group = user if group is None else group
    lines = [f"Uid:\t{user}\t{user}\t{user}\t{user}", f"Gid:\t{group}\t{group}\t{group}\t{group}"]
    return "\n".join([*lines, f"CapPrm:\t{permitted}", f"CapEff:\t{effective}", ""])


def refusal(ours, theirs, *, scope="", attach=True, ours_ns="user:[1]", theirs_ns="user:[1]"):
    files = {
        "/proc/self/status": ours,
        "/proc/9/status": theirs,
        "/proc/sys/kernel/yama/ptrace_scope": f"{scope}\n",
        "/proc/self/ns/user": ours_ns,
        "/proc/9/ns/user": theirs_ns,
    }
    return _ptrace.refusal(9, attach=attach, read=files.__getitem__)


ROOT = status(0, effective=ALL, permitted=ALL)
CONTAINER = status(0, effective=NO_PTRACE, permitted=NO_PTRACE)
USER = status(12345)


@pytest.mark.parametrize(
    ("ours", "theirs", "facts", "words"),
    [
        (USER, status(0), {}, "it belongs to user root, and you are user 12345: be its user, or root"),
        (USER, "", {}, "hidden"),
        (USER, status(12345, group=7), {}, "another group than you (7, not 12345)"),
        (USER, USER, {"scope": 1}, "kernel.yama.ptrace_scope is 1, so only its ancestors may"),
        (USER, USER, {"scope": 2}, "kernel.yama.ptrace_scope is 2, so only root may"),
        (ROOT, USER, {"scope": 3}, "kernel.yama.ptrace_scope is 3, so no process may"),
        (USER, USER, {"scope": 1, "attach": False}, "PR_SET_DUMPABLE"),
        (USER, USER, {"scope": 0}, "PR_SET_DUMPABLE"),
        (USER, status(12345, permitted="20"), {}, "more capabilities than you"),
        (CONTAINER, USER, {}, "without CAP_SYS_PTRACE (in a container: docker run --cap-add SYS_PTRACE)"),
        (ROOT, USER, {"theirs_ns": "user:[2]"}, "not in the user namespace of the process"),
        (ROOT, USER, {"theirs_ns": ""}, "not in the user namespace of the process"),
        (ROOT, USER, {}, "security module"),
        ("", "", {}, "see kernel.yama.ptrace_scope"),
    ],
)
def test_the_rule_that_refuses_is_named(ours, theirs, facts, words):
    """Yama limits only access that attaches; scope 3 concerns root, too."""
    assert words in refusal(ours, theirs, **facts)


@pytest.mark.parametrize(("link", "told"), [("pid:[4026531836]", False), ("pid:[4026532179]", True), ("", False)])
def test_in_a_pid_namespace_a_missing_process_may_be_outside(link, told):
    assert ("PID namespace" in _ptrace.hidden(lambda _: link)) == told


def test_files_that_cannot_be_read_are_empty():
    assert _ptrace.read("/proc/self/no-such-file") == ""
    assert _ptrace.read("/proc/self/ns/user") == os.readlink("/proc/self/ns/user")
