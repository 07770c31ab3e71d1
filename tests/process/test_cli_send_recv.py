"""``fdpass send`` and ``fdpass recv``: with each other, and with other programs that use SCM_RIGHTS."""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "fdpass"]
KINDS = {"stream": socket.SOCK_STREAM, "seqpacket": socket.SOCK_SEQPACKET, "dgram": socket.SOCK_DGRAM}


def run(*arguments, **options):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=60, **options)


@contextlib.contextmanager
def receiving(path, *arguments, **options):
    """A running ``fdpass recv``, once it listens: a sender that connects and then fails shows that it does."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    with subprocess.Popen([*COMMAND, "recv", str(path), *map(str, arguments)], **options) as command:
        try:
            probe = run("send", path, "--wait", 60, "--mode", "w", "/nonexistent/file")
            assert "cannot open /nonexistent/file" in probe.stderr
            yield command
        finally:
            if command.poll() is None:
                command.kill()


@contextlib.contextmanager
def listening(path, kind="stream"):
    """A stranger who listens."""
    with socket.socket(socket.AF_UNIX, KINDS[kind]) as sock:
        sock.bind(str(path))
        if kind != "dgram":
            sock.listen()
        yield sock


def taken(sock, kind="stream"):
    """What a stranger receives: data and descriptors."""
    peer = sock if kind == "dgram" else sock.accept()[0]
    data, fds, _, _ = socket.recv_fds(peer, 65536, 16)
    if peer is not sock:
        peer.close()
    return data, fds


@pytest.fixture
def path(tmp_path):
    return tmp_path / "socket"


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "file"
    file.write_text("some text\n")
    return file


def finished(command):
    out, err = command.communicate(timeout=60)
    return command.returncode, out, err


def test_recv_prints_the_file_that_send_sends(path, file):
    """The content comes out at the other end, and the socket file is gone."""
    with receiving(path) as recv:
        assert (path.stat().st_mode & 0o777) == 0o600
        sent = run("send", path, file)
        assert (sent.returncode, sent.stdout, sent.stderr) == (0, "", "")
        assert finished(recv) == (0, "some text\n", "")
    assert not path.exists()


def test_send_waits_for_a_receiver_that_starts_later(path, file):
    """With --wait the order of the two does not matter."""
    with subprocess.Popen([*COMMAND, "send", str(path), str(file), "--wait", "60"]) as send:
        assert run("recv", path).stdout == "some text\n"
        assert send.wait(60) == 0


def test_send_with_wait_tries_again(path, monkeypatch):
    """Nobody there, then a file without a listener behind it, then a listener: connected at once."""
    from fdpass._cli import send
    from fdpass._cli.common import Deadline

    server = socket.socket(socket.AF_UNIX)
    steps = iter([lambda: server.bind(str(path)), server.listen])
    monkeypatch.setattr(send.time, "sleep", lambda seconds: next(steps)())
    connected = sys.modules["fdpass._cli.send"]._connected(str(path), Deadline(60))
    assert connected.getpeername() == str(path)
    connected.close()
    server.close()


def test_send_passes_standard_input(path):
    """A FILE of - is the sender's standard input: here a pipe, read to its end by the receiver."""
    with receiving(path) as recv:
        assert run("send", path, "-", input="from a pipe\n").returncode == 0
        assert finished(recv) == (0, "from a pipe\n", "")


def test_send_and_recv_use_an_abstract_address(file):
    """A name with @ needs no file."""
    name = f"@fdpass-test-{os.getpid()}"
    with receiving(name) as recv:
        assert run("send", name, file).returncode == 0
        assert finished(recv)[:2] == (0, "some text\n")


def test_recv_shows_the_text_of_the_message(path, file):
    """The text is shown on standard error, with everything escaped that a terminal would obey."""
    with receiving(path) as recv:
        assert run("send", path, file, "--message", "grüße \x1b[31m\n").returncode == 0
        assert finished(recv) == (0, "some text\n", "message: grüße \\x1b[31m\\n\n")


@pytest.mark.parametrize("size", [1, 32768])
def test_the_longest_text_arrives_whole(path, file, size):
    """The longest text that is admitted comes in the one message."""
    with receiving(path) as recv:
        assert run("send", path, file, "--message", "m" * size).returncode == 0
        assert finished(recv) == (0, "some text\n", f"message: {'m' * size}\n")


def test_recv_says_how_many_descriptors_it_received(path, file, tmp_path):
    """Without a command only the first is printed, and that is said."""
    (tmp_path / "other").write_text("other")
    with receiving(path) as recv:
        assert run("send", path, file, tmp_path / "other").returncode == 0
        code, out, err = finished(recv)
        assert (code, out) == (0, "some text\n")
        assert err.startswith("received 2 descriptors")


@pytest.mark.parametrize("kind", KINDS)
def test_send_works_with_another_receiver(path, file, kind):
    """Any type of listener; without a text there is one byte, since descriptors need one on a stream."""
    with listening(path, kind) as sock:
        assert run("send", path, file, file).returncode == 0
        data, fds = taken(sock, kind)
        assert (data, [os.read(fd, 100) for fd in fds]) == (b"\0", [b"some text\n"] * 2)
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize(
    ("mode", "access", "content"),
    [
        ("r", os.O_RDONLY, "some text\n"),
        ("w", os.O_WRONLY, "new"),
        ("rw", os.O_RDWR, "newe text\n"),
        ("a", os.O_WRONLY, "some text\nnew"),
    ],
)
def test_send_opens_files_in_the_given_mode(path, file, mode, access, content):
    """The receiver may do what the sender opened the file for, and no more."""
    with listening(path) as sock:
        assert run("send", path, file, "--mode", mode).returncode == 0
        _, [fd] = taken(sock)
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == access
        if mode != "r":
            os.write(fd, b"new")
        os.close(fd)
    assert file.read_text() == content


@pytest.mark.parametrize("there", [False, True], ids=["no socket file", "a stale one"])
@pytest.mark.parametrize("mode", ["r", "w"])
def test_send_without_a_listener_fails(path, file, there, mode):
    """The sentence names the place and the remedy; a file to be written to has not been emptied."""
    if there:
        with listening(path):
            pass
    done = run("send", path, file, "--mode", mode)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"fdpass send: {path}: no process listens there")
    assert "--wait" in done.stderr
    assert file.read_text() == "some text\n"


def test_send_fails_when_its_wait_is_over(path, file):
    """The waiting is bounded."""
    done = run("send", path, file, "--wait", 0.05)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no process listens there" in done.stderr


def test_send_to_a_full_backlog_fails(path, file):
    """A listener that does not accept is not waited for unasked."""
    with listening(path) as sock, contextlib.ExitStack() as held:
        sock.listen(0)
        held.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX))).connect(str(path))
        done = run("send", path, file)
        assert done.returncode == 1
        assert "no room for another connection" in done.stderr


def test_send_of_a_missing_file_fails(path):
    """A FILE that cannot be read is told before anybody is bothered."""
    with listening(path) as sock:
        done = run("send", path, path.parent / "none")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"fdpass send: cannot open {path.parent}/none: No such file or directory\n"
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.accept()


@pytest.mark.parametrize("verb", [["send"], ["recv"]])
def test_a_socket_path_that_is_too_long_is_refused(verb, file):
    """The kernel's bound on socket addresses is explained, not shown as a traceback."""
    done = run(*verb, "/tmp/" + "x" * 120, *([file] if verb == ["send"] else []))
    assert done.returncode == 1
    assert "107" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_recv_works_with_another_sender(path, file):
    """Python's own send_fds, and a text that is not UTF-8."""
    with receiving(path) as recv, socket.socket(socket.AF_UNIX) as sock, open(file) as opened:
        sock.connect(str(path))
        socket.send_fds(sock, [b"x\xff"], [opened.fileno()])
        assert finished(recv) == (0, "some text\n", "message: x\\udcff\n")


def test_recv_refuses_text_without_a_descriptor(path):
    """A peer that sends something else is told apart."""
    with receiving(path) as recv, socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b"GET / HTTP/1.1\r\n")
        assert finished(recv) == (
            1,
            "",
            "fdpass recv: the peer sent 16 bytes (GET / HTTP/1.1\\r\\n), but no descriptor\n",
        )
    assert not path.exists()


def test_recv_fails_after_its_timeout(path):
    """Nobody comes: the waiting ends, and the socket file is gone."""
    done = run("recv", path, "--timeout", 0.05)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"fdpass recv: {path}: no message has arrived in time\n"
    assert not path.exists()


def test_the_timeout_of_recv_includes_a_silent_peer(path):
    """The time limit covers the waiting for the message, too."""
    from fdpass._cli import recv
    from fdpass.errors import Timeout

    with socket.socket(socket.AF_UNIX) as sock:

        class ConnectsFirst:
            calls = 0

            def left(self):
                self.calls += 1
                if self.calls == 1:
                    sock.connect(str(path))
                    return None
                return 0.01

        with pytest.raises(Timeout, match="no message has arrived"):
            recv._first_message(str(path), ConnectsFirst())
    assert not path.exists()


def test_a_second_receiver_at_the_same_socket_fails(path, file):
    """The second is refused, and the first goes on."""
    with receiving(path) as recv:
        second = run("recv", path)
        assert (second.returncode, second.stdout) == (1, "")
        assert str(path) in second.stderr
        assert "Traceback" not in second.stderr
        run("send", path, file)
        assert finished(recv) == (0, "some text\n", "")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_recv_refuses_a_peer_of_another_user(file):
    """No file mode guards an abstract address: others are refused, and the next peer is served."""
    name = f"@fdpass-test-{os.getpid()}"
    with receiving(name) as recv:
        child = os.fork()
        if child == 0:
            try:
                os.setuid(65534)
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(f"\0{name[1:]}")
                refused = sock.recv(1) == b""
                os._exit(0 if refused else 3)
            finally:
                os._exit(4)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert run("send", name, file).returncode == 0
        code, out, err = finished(recv)
        assert (code, out) == (0, "some text\n")
        assert err.startswith("refused ")
        assert "65534" in err


def test_recv_says_that_its_descriptor_table_is_full(path, file):
    """A receiver whose table is full says so, and what to do."""
    shell = ["sh", "-c", 'ulimit -n 6; exec "$@"', "sh", *COMMAND, "recv", str(path)]
    with subprocess.Popen(shell, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as recv:
        assert run("send", path, file, file, file, "--wait", 60).returncode == 0
        code, out, err = finished(recv)
        assert (code, out) == (1, "")
        assert err.startswith("fdpass recv: ")
        assert "table full" in err
        assert "ulimit -n" in err
        assert err.count("\n") == 1


def test_recv_does_not_remove_a_file_that_has_replaced_its_socket(path, file):
    """A file that has taken the socket's place stays."""
    with receiving(path) as recv, socket.socket(socket.AF_UNIX) as sock, open(file) as opened:
        sock.connect(str(path))
        path.unlink()
        path.write_text("mine")
        socket.send_fds(sock, [b"x"], [opened.fileno()])
        assert finished(recv)[0] == 0
    assert path.read_text() == "mine"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_recv_removes_its_socket_when_a_signal_ends_it(path, number, code):
    """Quietly, and the socket file goes."""
    with receiving(path) as recv:
        recv.send_signal(number)
        assert finished(recv) == (code, "", "")
    assert not path.exists()


def test_recv_cannot_print_a_directory(path, tmp_path):
    """What cannot be printed is told, with what can be done instead."""
    with receiving(path) as recv:
        assert run("send", path, tmp_path).returncode == 0
        code, out, err = finished(recv)
        assert (code, out) == (1, "")
        assert "(dir): Is a directory" in err


def test_recv_fails_if_its_standard_output_is_closed(path, file):
    """A closed standard output is an error; its number is not filled with what was received."""
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "recv", str(path)]
    with subprocess.Popen(shell, stderr=subprocess.PIPE, text=True) as recv:
        assert run("send", path, file, "--wait", 60, "--mode", "rw").returncode == 0
        code, _, err = finished(recv)
        assert (code, err) == (1, "fdpass recv: cannot write to standard output: Bad file descriptor\n")
    assert file.read_text() == "some text\n"


def command_gets(path, files, *arguments):
    with receiving(path, *arguments) as recv:
        assert run("send", path, *files, "--message", "hello").returncode == 0
        return finished(recv)


def test_recv_runs_a_command_by_the_convention_of_socket_activation(path, tmp_path, file):
    """A command finds its descriptors by the convention, in the order in which they were sent."""
    (tmp_path / "other").write_text("other")
    code = (
        "import os, fdpass\n"
        "assert int(os.environ['LISTEN_PID']) == os.getpid()\n"
        "assert os.environ['FDPASS_MESSAGE'] == 'hello'\n"
        "for one in fdpass.inherited():\n"
        "    print(one.fd.fileno(), one.name, one.fd.open('r').read().strip())\n"
    )
    done = command_gets(path, [file, tmp_path / "other", tmp_path], "--", sys.executable, "-c", code)
    assert done[1].splitlines()[:2] == ["3 file some text", "4 file other"]
    assert "IsADirectoryError" in done[2]


def test_a_command_inherits_no_other_descriptor(path, file):
    """The command holds the standard streams and what was sent: no socket of ours."""
    code = "import os; there = '/proc/self/fd'; "
    code += "print([n for n in os.listdir(there) if os.path.lexists(f'{there}/{n}')])"
    assert command_gets(path, [file] * 3, "--", sys.executable, "-c", code)[:2] == (0, f"{[*'012345']}\n")


def test_braces_become_the_path_of_the_descriptor(path, file):
    """{} stands for the first, also within an argument."""
    assert command_gets(path, [file], "--", "sh", "-c", 'cat "$1"; echo "$2"', "sh", "{}", "--in={}") == (
        0,
        "some text\n--in=/dev/fd/3\n",
        "",
    )


def test_recv_makes_the_descriptor_standard_input(path, file):
    """--stdin puts the first there; options before -- are ours, after it the command's."""
    assert command_gets(path, [file], "--stdin", "--", "wc", "-l")[:2] == (0, "1\n")


def test_recv_exits_with_the_code_of_its_command(path, file):
    """The process becomes the command: its exit code is seen, and it may die of SIGPIPE as others do."""
    code, out, _ = command_gets(path, [file], "--", "sh", "-c", "grep SigIgn /proc/self/status; exit 7")
    assert code == 7
    assert int(out.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0


def test_a_missing_command_fails_with_a_sentence(path, file):
    """One sentence that names it."""
    assert command_gets(path, [file], "--", "no-such-command") == (
        1,
        "",
        "fdpass recv: cannot run no-such-command: No such file or directory\n",
    )


PLACE = """
import itertools, os, sys
from fdpass._cli.run import place
for count in (1, 2, 3, 4):
    for numbers in itertools.permutations(range(3, 8), count):
        if (child := os.fork()) == 0:
            spare = [os.memfd_create("x") for _ in range(30)][-count:]
            inodes = [os.fstat(fd).st_ino for fd in spare]
            os.closerange(3, 8)
            for fd, number in zip(spare, numbers):
                os.dup2(fd, number, inheritable=False)
            os.closerange(8, 60)
            place(list(numbers))
            placed = [os.fstat(3 + i).st_ino for i in range(count)]
            good = placed == inodes and all(map(os.get_inheritable, range(3, 3 + count)))
            left = [n for n in range(3 + count, 60) if os.path.lexists(f"/proc/self/fd/{n}")]
            os._exit(0 if good and not left else 1)
        if os.waitpid(child, 0)[1]:
            sys.exit(f"wrong for {numbers}")
"""


def test_descriptors_are_moved_to_3_and_following_numbers():
    """Every way in which sources and targets can overlap: the right files, in order, and no other left."""
    done = subprocess.run([sys.executable, "-c", PLACE], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")


def test_listen_fdnames_has_the_kind_of_each_descriptor(path):
    """A listening socket goes through as one: its kind is its name for the command."""
    with receiving(path, "--", "sh", "-c", "echo $LISTEN_FDS $LISTEN_FDNAMES") as recv:
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            socket.send_fds(sock, [b"x"], [listener.fileno(), 0])
        code, out, _ = finished(recv)
    assert code == 0
    assert out.split()[0] == "2"
    assert out.split()[1].startswith("listener:")
