"""Which user and group a server switches to, and that it cannot switch back."""

import os
import subprocess
import sys

import pytest

from fdpass.errors import ConfigError
from fdpass.serve.operator import privileges
from fdpass.serve.shared.config import Config


def test_without_user_and_group_there_is_no_identity():
    assert privileges.identity(Config()) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"user": "no such user"}, "--user 'no such user': there is no such user"),
        ({"group": "no such group"}, "--group 'no such group': there is no such group"),
        ({"user": "0", "group": "no such group"}, "--group 'no such group': there is no such group"),
        ({"user": 2**32 - 1, "group": 0}, "--user '4294967295': there is no such user"),  # -1 for setresuid(2)
        ({"user": "9" * 5000}, f"--user '{'9' * 5000}': there is no such user"),
        ({"user": "\u00b2"}, "--user '\u00b2': there is no such user"),  # a digit, and no number
        ({"user": "0", "group": 2**32 - 1}, "--group '4294967295': there is no such group"),
    ],
)
def test_an_unknown_user_or_group_is_refused_with_its_name(settings, words):
    with pytest.raises(ConfigError) as caught:
        privileges.identity(Config(**settings))
    assert str(caught.value) == words


def test_the_own_user_and_group_need_no_switch():
    assert privileges.identity(Config(user=os.geteuid(), group=os.getegid())) == (os.geteuid(), os.getegid())
    privileges.become(os.geteuid(), os.getegid(), ["/no/such/file"])  # nothing is done


def test_only_root_can_switch_to_another_user(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    for settings in ({"user": 54321, "group": 54321}, {"user": 12345, "group": 54321}):
        with pytest.raises(ConfigError, match="only root can switch to another user or group"):
            privileges.identity(Config(**settings))


BECOME = """
import os, sys
from fdpass.errors import FdpassError
from fdpass.serve.dispatcher import limits
from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.operator import files, privileges
from fdpass.serve.shared.config import Config
path = sys.argv[1]
file = os.open(path, os.O_RDONLY)
uid, gid = privileges.identity(Config(user=sys.argv[2], group=sys.argv[3]))
privileges.become(uid, gid, [path])
assert os.getresuid() == (uid,) * 3 and os.getresgid() == (gid,) * 3
assert 0 not in os.getgroups(), os.getgroups()
assert os.fstat(file).st_uid == uid
for back in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0])):
    try:
        back()
    except PermissionError:
        continue
    raise AssertionError("root again")
try:
    privileges.become(0, 0, [])
except FdpassError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("user", "group"), [("nobody", ""), ("54321", "65432"), ("nobody", "54321")])
def test_the_rights_of_root_cannot_be_taken_back(tmp_path, user, group):
    path = tmp_path / "own"
    path.touch()
    code = subprocess.run(
        [sys.executable, "-c", BECOME, path, user, group], capture_output=True, text=True, check=False
    )
    assert code.returncode == 0, code.stderr
    assert "cannot switch to user 0, group 0" in code.stdout


def test_a_user_number_without_an_entry_does_not_get_roots_group():
    """Ours would be root's."""
    with pytest.raises(
        ConfigError, match="--user 54321: the system has no group for this user: give one with --group"
    ):
        privileges.identity(Config(user="54321"))
