"""What a server takes from its machine: room for descriptors, identities, a pidfile, its log; and TLS files."""

import contextlib
import os
import resource
import subprocess
import sys

import pytest

from fdpass.errors import CallFailed, ConfigError, NotFound
from fdpass.serve.dispatcher import limits
from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.operator import files, privileges
from fdpass.serve.shared import tls
from fdpass.serve.shared.config import Config
from fdpass.testing import full_table


@pytest.fixture
def file_limit():
    """Whatever a test does to them, they are as before."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


# Room


def test_the_limit_on_open_files_is_raised_to_what_is_allowed(file_limit):
    _, hard = file_limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    capacity = limits.raise_descriptor_limit()
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert soft == (hard if hard != resource.RLIM_INFINITY else 2**20)
    assert 0 < capacity < soft


def with_limit(number):
    """How many connections a process may have that is allowed so many open files; in one of its own."""
    code = (
        "import resource, fdpass.serve.dispatcher.limits as limits; "
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({number}, {number})); print(limits.raise_descriptor_limit())"
    )
    return int(subprocess.check_output([sys.executable, "-c", code]))


@pytest.mark.parametrize(("limit", "expected"), [(64, 32), (512, 256), (1024, 768)])
def test_a_process_keeps_some_descriptors_for_itself(limit, expected):
    """256, or half of a small table."""
    assert with_limit(limit) == expected


def test_without_a_wish_it_is_as_many_as_fit():
    assert limits.most_connections(Config(workers=3, custody="off"), 1000) == 3000
    assert limits.most_connections(Config(workers=3), 1000) == 1000


def test_what_fits_is_granted():
    assert limits.most_connections(Config(workers=3, max_connections=3000, custody="off"), 1000) == 3000
    assert limits.most_connections(Config(workers=3, max_connections=7), 1000) == 7


def test_what_cannot_fit_is_refused_with_the_numbers():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    with pytest.raises(ConfigError) as caught:
        limits.most_connections(Config(workers=3, max_connections=3001, custody="off"), 1000)
    assert str(caught.value) == (
        f"--max-connections 3,001 cannot fit: a process may have {limit:,} open files (ulimit -Hn) and needs "
        f"{limit - 1000:,} for itself, so 3 worker(s) can have 3,000 connections; raise the limit, or have more "
        "workers"
    )


def test_in_custody_the_dispatcher_needs_a_descriptor_for_each():
    with pytest.raises(ConfigError, match=r"--max-connections 1,001 cannot fit: .*, or use --custody off"):
        limits.most_connections(Config(workers=3, max_connections=1001), 1000)


# Identities


def test_nobody_in_particular():
    assert privileges.identity(Config()) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"user": "no such user"}, "--user 'no such user': there is no such user"),
        ({"group": "no such group"}, "--group 'no such group': there is no such group"),
        ({"user": "0", "group": "no such group"}, "--group 'no such group': there is no such group"),
    ],
)
def test_who_does_not_exist_is_named(settings, words):
    with pytest.raises(ConfigError) as caught:
        privileges.identity(Config(**settings))
    assert str(caught.value) == words


def test_oneself_by_number():
    assert privileges.identity(Config(user=os.geteuid(), group=os.getegid())) == (os.geteuid(), os.getegid())
    privileges.become(os.geteuid(), os.getegid(), ["/no/such/file"])  # nothing is done


def test_only_root_can_become_another(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    for settings in ({"user": 54321, "group": 54321}, {"user": 12345, "group": 54321}):
        with pytest.raises(ConfigError, match="only root can become another user"):
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
def test_roots_rights_are_given_up_for_good(tmp_path, user, group):
    path = tmp_path / "own"
    path.touch()
    code = subprocess.run(
        [sys.executable, "-c", BECOME, path, user, group], capture_output=True, text=True, check=False
    )
    assert code.returncode == 0, code.stderr
    assert "cannot become user 0, group 0" in code.stdout


def test_a_number_without_an_entry_has_no_group_and_does_not_get_ours():
    """Ours would be root's."""
    with pytest.raises(ConfigError, match="--user 54321: the system knows no group of this user: give --group"):
        privileges.identity(Config(user="54321"))


# The pidfile


def test_the_pidfile_is_there_meanwhile(tmp_path):
    path = tmp_path / "pid"
    with files.pidfile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_the_pidfile_is_removed_after_a_failure(tmp_path):
    path = tmp_path / "pid"
    with pytest.raises(LookupError), files.pidfile(str(path)):
        raise LookupError
    assert not path.exists()


def test_a_pidfile_that_is_anothers_by_now_stays(tmp_path):
    path = tmp_path / "pid"
    with files.pidfile(str(path)):
        path.write_text("1\n")
    assert path.read_text() == "1\n"


def test_a_pidfile_that_has_gone_is_no_failure(tmp_path):
    path = tmp_path / "pid"
    with files.pidfile(str(path)):
        path.unlink()


def test_no_pidfile():
    with files.pidfile(""):
        pass


def test_a_pidfile_that_cannot_be_written_is_named(tmp_path):
    path = f"{tmp_path}/none/pid"
    with pytest.raises(NotFound, match=f"cannot write the pidfile {path}"), files.pidfile(path):
        pass


# The access log


def test_the_access_log_is_appended_to(tmp_path):
    path = tmp_path / "access"
    for text in (b"one\n", b"two\n"):
        with contextlib.closing(AccessLog(str(path))) as log:
            assert not os.get_inheritable(log.fd.fileno())
            os.write(log.fd.fileno(), text)
    assert path.read_text() == "one\ntwo\n"
    assert path.stat().st_mode & 0o137 == 0


def test_an_access_log_that_was_moved_is_opened_again_under_the_same_number(tmp_path):
    """A message that still waits for a worker names that number."""
    path, moved = tmp_path / "access", tmp_path / "access.1"
    with contextlib.closing(AccessLog(str(path))) as log:
        number = log.fd.fileno()
        os.rename(path, moved)
        before = len(os.listdir("/proc/self/fd"))
        log.reopen()
        os.write(number, b"after")
        assert not os.get_inheritable(number)
        assert len(os.listdir("/proc/self/fd")) == before
    assert (path.read_text(), moved.read_text()) == ("after", "")


def test_a_dash_is_standard_output(capfd):
    with contextlib.closing(AccessLog("-")) as log:
        os.write(log.fd.fileno(), b"hello")
    assert capfd.readouterr().out == "hello"


def test_no_access_log():
    log = AccessLog("")
    log.reopen()
    assert log.fd is None
    log.close()


def test_an_access_log_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(CallFailed, match=f"cannot open the access log {tmp_path}: Is a directory"):
        AccessLog(str(tmp_path))
    for path in ("-", str(tmp_path / "log")):
        with (
            full_table(),
            pytest.raises(CallFailed, match=f"cannot open the access log {path}: Too many open files"),
        ):
            AccessLog(path)


# TLS


def test_no_tls():
    assert tls.context(Config()) is None


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """cert.pem, key.pem, other.pem (another key), locked.pem (with a password); made by openssl."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments):
        try:
            subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("openssl is not installed")

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    openssl(*new, "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem")
    openssl(*new, "-subj", "/CN=other", "-keyout", "other.pem", "-out", "other-cert.pem")
    openssl("ec", "-in", "key.pem", "-aes128", "-passout", "pass:secret", "-out", "locked.pem")
    (folder / "both.pem").write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    (folder / "text").write_text("no certificate\n")
    return folder


def settings(folder, **files):
    return Config(**{f"tls_{kind}": str(folder / name) for kind, name in files.items()})


@pytest.mark.parametrize(
    "files", [{"cert": "cert.pem", "key": "key.pem"}, {"cert": "both.pem"}, {"cert": "both.pem", "ca": "cert.pem"}]
)
def test_a_context_is_made(certificates, files):
    context = tls.context(settings(certificates, **files))
    assert (context.verify_mode != 0) == ("ca" in files)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"cert": "none"}, r"^--tls-cert \S*/none: No such file"),
        ({"cert": "cert.pem", "key": "none"}, r"^--tls-cert \S*, --tls-key \S*/none: No such file"),
        ({"cert": "text"}, r"^--tls-cert \S*/text: "),
        ({"cert": "cert.pem"}, r"^--tls-cert \S*/cert.pem: "),
        ({"cert": "cert.pem", "key": "other.pem"}, r"^--tls-cert .*--tls-key \S*/other.pem: .*mismatch"),
        ({"cert": "cert.pem", "key": "locked.pem"}, r"--tls-key \S*/locked.pem: the key has a password"),
        ({"cert": "both.pem", "ca": "none"}, r"^--tls-ca \S*/none: No such file"),
        ({"cert": "both.pem", "ca": "text"}, r"^--tls-ca \S*/text: "),
    ],
)
def test_what_is_wrong_with_the_files_is_told_with_their_names(certificates, files, words):
    with pytest.raises(ConfigError, match=f"(?i){words}"):
        tls.context(settings(certificates, **files))
