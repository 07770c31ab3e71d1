"""``fdpass send`` and ``fdpass recv``: with each other, and with other programs that speak SCM_RIGHTS."""

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
    """A running ``fdpass recv`` that listens: a sender, which connects and then fails, has waited for that."""
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
    """A listening socket of another program."""
    with socket.socket(socket.AF_UNIX, KINDS[kind]) as sock:
        sock.bind(str(path))
        if kind != "dgram":
            sock.listen()
        yield sock


def taken(sock, kind="stream"):
    """The data and the descriptors that another program receives."""
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


def test_recv_prints_the_file_that_send_sent_and_removes_its_socket_file(path, file):
    with receiving(path) as recv:
        assert (path.stat().st_mode & 0o777) == 0o600
        sent = run("send", path, file)
        assert (sent.returncode, sent.stdout, sent.stderr) == (0, "", "")
        assert finished(recv) == (0, "some text\n", "")
    assert not path.exists()


def test_send_with_wait_can_be_started_before_recv(path, file):
    with subprocess.Popen([*COMMAND, "send", str(path), str(file), "--wait", "60"]) as send:
        assert run("recv", path).stdout == "some text\n"
        assert send.wait(60) == 0


def test_wait_connects_once_a_program_listens(path, monkeypatch):
    """At first there is no socket file, then one without a listener, then a listener."""
    from fdpass._cli import send
    from fdpass._cli.common import Deadline

    server = socket.socket(socket.AF_UNIX)
    steps = iter([lambda: server.bind(str(path)), server.listen])
    monkeypatch.setattr(send.time, "sleep", lambda seconds: next(steps)())
    connected = sys.modules["fdpass._cli.send"]._connected(str(path), Deadline(60))
    assert connected.getpeername() == str(path)
    connected.close()
    server.close()


def test_a_file_of_dash_is_the_standard_input_of_send(path):
    """Here it is a pipe, which the receiver reads to its end."""
    with receiving(path) as recv:
        assert run("send", path, "-", input="from a pipe\n").returncode == 0
        assert finished(recv) == (0, "from a pipe\n", "")


def test_an_abstract_address_needs_no_file(file):
    name = f"@fdpass-test-{os.getpid()}"
    with receiving(name) as recv:
        assert run("send", name, file).returncode == 0
        assert finished(recv)[:2] == (0, "some text\n")


def test_recv_shows_the_message_on_standard_error_with_escapes(path, file):
    """Control characters must not reach the terminal."""
    with receiving(path) as recv:
        assert run("send", path, file, "--message", "grüße \x1b[31m\n").returncode == 0
        assert finished(recv) == (0, "some text\n", "message: grüße \\x1b[31m\\n\n")


@pytest.mark.parametrize("size", [1, 32768])
def test_the_shortest_and_the_longest_message_arrive_whole(path, file, size):
    with receiving(path) as recv:
        assert run("send", path, file, "--message", "m" * size).returncode == 0
        assert finished(recv) == (0, "some text\n", f"message: {'m' * size}\n")


def test_recv_prints_the_first_of_several_files_and_says_so(path, file, tmp_path):
    (tmp_path / "other").write_text("other")
    with receiving(path) as recv:
        assert run("send", path, file, tmp_path / "other").returncode == 0
        code, out, err = finished(recv)
        assert (code, out) == (0, "some text\n")
        assert err.startswith("received 2 descriptors")


@pytest.mark.parametrize("kind", KINDS)
def test_send_works_with_any_type_of_listener_of_another_program(path, file, kind):
    """Without --message the data is one zero byte, since descriptors need data on a stream."""
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
def test_the_receiver_gets_exactly_the_access_of_mode(path, file, mode, access, content):
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
def test_send_without_a_listener_names_address_and_remedy_and_empties_no_file(path, file, there, mode):
    if there:
        with listening(path):
            pass
    done = run("send", path, file, "--mode", mode)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"fdpass send: {path}: no process listens there")
    assert "--wait" in done.stderr
    assert file.read_text() == "some text\n"


def test_send_with_wait_fails_after_that_time(path, file):
    done = run("send", path, file, "--wait", 0.05)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no process listens there" in done.stderr


def test_send_without_wait_fails_if_the_backlog_is_full(path, file):
    with listening(path) as sock, contextlib.ExitStack() as held:
        sock.listen(0)
        held.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX))).connect(str(path))
        done = run("send", path, file)
        assert done.returncode == 1
        assert "no room for another connection" in done.stderr


@pytest.mark.parametrize("wait", [[], ["--wait", 0.2]])
@pytest.mark.parametrize(("mode", "other"), [("r", "writing"), ("w", "reading")])
def test_send_of_a_fifo_waits_for_its_other_end_no_longer_than_wait(path, mode, other, wait):
    fifo = path.parent / "fifo"
    os.mkfifo(fifo)
    with listening(path):
        done = run("send", path, fifo, "--mode", mode, *wait)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"fdpass send: {fifo}: no process has the FIFO open for {other}")


def test_send_with_wait_sends_a_fifo_once_it_has_a_writer(path):
    """The receiver gets what the writer writes, and not an early end."""
    fifo = path.parent / "fifo"
    os.mkfifo(fifo)
    with receiving(path) as recv, subprocess.Popen([*COMMAND, "send", path, fifo, "--wait", "60"]) as send:
        fifo.write_text("through the fifo\n")  # open(2) waits for send
        assert send.wait(60) == 0
        assert finished(recv) == (0, "through the fifo\n", "")


def test_send_does_not_wait_for_a_full_queue_of_datagrams(path, file):
    with listening(path, "dgram") as sock, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                other.sendto(b"x", str(path))
        done = run("send", path, file)
        assert (done.returncode, sock.recv(1)) == (1, b"x")
        assert done.stderr.startswith(f"fdpass send: {path}: the receiver's queue is full")


def test_send_of_a_closed_standard_input_says_so(path):
    """It would send /dev/null."""
    shell = ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, "send", str(path), "-"]
    with listening(path):
        done = subprocess.run(shell, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "fdpass send: standard input is closed, so there is nothing to send for -\n"


@pytest.mark.parametrize("verb", ["send", "recv"])
@pytest.mark.parametrize("kind", ["a regular file", "a folder", "a FIFO"])
def test_a_path_that_is_no_socket_is_named_with_its_kind(tmp_path, file, verb, kind):
    """And send does not wait for a listener there."""
    os.mkfifo(tmp_path / "fifo")
    path = {"a regular file": file, "a folder": tmp_path, "a FIFO": tmp_path / "fifo"}[kind]
    done = run(verb, path, *([file, "--wait", 600] if verb == "send" else []))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"fdpass {verb}: {path} is {kind}, not a socket")


def test_recv_in_a_folder_that_does_not_exist_names_the_folder(tmp_path):
    done = run("recv", tmp_path / "none" / "s")
    assert done.stderr == f"fdpass recv: cannot listen at {tmp_path}/none/s: there is no folder {tmp_path}/none\n"


def test_send_of_a_missing_file_does_not_connect(path):
    with listening(path) as sock:
        done = run("send", path, path.parent / "none")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"fdpass send: cannot open {path.parent}/none: No such file or directory\n"
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.accept()


@pytest.mark.parametrize("verb", [["send"], ["recv"]])
def test_a_path_too_long_for_a_socket_is_an_error_of_one_sentence(verb, file):
    """It names the limit of 107 bytes."""
    done = run(*verb, "/tmp/" + "x" * 120, *([file] if verb == ["send"] else []))
    assert done.returncode == 1
    assert "107" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_recv_works_with_send_fds_of_python(path, file):
    """The text is not UTF-8."""
    with receiving(path) as recv, socket.socket(socket.AF_UNIX) as sock, open(file) as opened:
        sock.connect(str(path))
        socket.send_fds(sock, [b"x\xff"], [opened.fileno()])
        assert finished(recv) == (0, "some text\n", "message: x\\udcff\n")


def test_recv_of_data_without_a_descriptor_is_an_error_that_shows_the_data(path):
    with receiving(path) as recv, socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b"GET / HTTP/1.1\r\n")
        assert finished(recv) == (
            1,
            "",
            "fdpass recv: the peer sent 16 bytes (GET / HTTP/1.1\\r\\n), but no descriptor\n",
        )
    assert not path.exists()


def test_recv_with_timeout_fails_if_no_peer_connects(path):
    done = run("recv", path, "--timeout", 0.05)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"fdpass recv: {path}: no message has arrived in time\n"
    assert not path.exists()


def test_recv_with_timeout_fails_if_the_peer_sends_nothing(path):
    with receiving(path, "--timeout", 1) as recv, socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        assert finished(recv) == (1, "", f"fdpass recv: {path}: no message has arrived in time\n")
    assert not path.exists()


def test_recv_serves_the_first_peer_that_sends_whatever_others_do(path, file):
    """More are connected than recv keeps open at a time; one has closed its end."""
    with receiving(path) as recv, contextlib.ExitStack() as held:
        idle = [held.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(70)]
        for sock in idle:
            sock.connect(str(path))
        idle[40].close()
        assert idle[0].recv(1) == b""  # the oldest connection made room for a newer one
        assert run("send", path, file, "--wait", 60).returncode == 0
        assert finished(recv) == (0, "some text\n", "")


def test_a_second_recv_at_the_same_path_is_refused(path, file):
    """The first goes on."""
    with receiving(path) as recv:
        second = run("recv", path)
        assert (second.returncode, second.stdout) == (1, "")
        assert str(path) in second.stderr
        assert "Traceback" not in second.stderr
        run("send", path, file)
        assert finished(recv) == (0, "some text\n", "")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_recv_refuses_another_user_and_serves_the_next_peer(file):
    """An abstract address has no file mode that would keep other users out."""
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


def test_recv_with_a_full_descriptor_table_names_the_remedy(path, file):
    shell = ["sh", "-c", 'ulimit -n 6; exec "$@"', "sh", *COMMAND, "recv", str(path)]
    with subprocess.Popen(shell, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as recv:
        assert run("send", path, file, file, file, "--wait", 60).returncode == 0
        code, out, err = finished(recv)
        assert (code, out) == (1, "")
        assert err.startswith("fdpass recv: ")
        assert "table full" in err
        assert "ulimit -n" in err
        assert err.count("\n") == 1


def test_recv_leaves_a_file_that_replaced_its_socket_file(path, file):
    with receiving(path) as recv, socket.socket(socket.AF_UNIX) as sock, open(file) as opened:
        sock.connect(str(path))
        path.unlink()
        path.write_text("mine")
        socket.send_fds(sock, [b"x"], [opened.fileno()])
        assert finished(recv)[0] == 0
    assert path.read_text() == "mine"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_recv_stopped_by_a_signal_is_silent_and_removes_its_socket_file(path, number):
    """It ends by that signal: a shell shows 130, 143 or 129."""
    with receiving(path) as recv:
        recv.send_signal(number)
        assert finished(recv) == (-number, "", "")
    assert not path.exists()


def test_recv_of_a_directory_is_an_error_of_one_sentence(path, tmp_path):
    with receiving(path) as recv:
        assert run("send", path, tmp_path).returncode == 0
        code, out, err = finished(recv)
        assert (code, out) == (1, "")
        assert "(dir): Is a directory" in err


def test_recv_does_not_append_a_file_to_itself(path, file):
    with open(file, "a") as output, receiving(path, stdout=output) as recv:
        assert run("send", path, file).returncode == 0
        _, err = recv.communicate(timeout=60)
        assert recv.returncode == 1
        assert (
            err == "fdpass recv: this descriptor (file) is the standard output, too: the copy would have no end\n"
        )
    assert file.read_text() == "some text\n"


def test_recv_of_a_file_from_its_offset_prints_the_rest(path, file):
    with receiving(path) as recv, socket.socket(socket.AF_UNIX) as sock, open(file, "rb", buffering=0) as opened:
        opened.seek(5)
        sock.connect(str(path))
        socket.send_fds(sock, [b"x"], [opened.fileno()])
        assert finished(recv)[:2] == (0, "text\n")


def test_recv_with_a_full_standard_error_still_prints_the_content(path, file):
    with open("/dev/full", "w") as full, receiving(path, stderr=full) as recv:
        assert run("send", path, file, "--message", "hello").returncode == 0
        assert finished(recv)[:2] == (0, "some text\n")


def test_recv_with_closed_standard_output_fails_and_writes_nothing_to_the_file(path, file):
    """The received descriptor must not get the number of the standard output."""
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


def test_a_command_gets_the_descriptors_by_socket_activation_in_order(path, tmp_path, file):
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


def test_a_command_inherits_only_standard_streams_and_received_descriptors(path, file):
    code = "import os; there = '/proc/self/fd'; "
    code += "print([n for n in os.listdir(there) if os.path.lexists(f'{there}/{n}')])"
    assert command_gets(path, [file] * 3, "--", sys.executable, "-c", code)[:2] == (0, f"{[*'012345']}\n")


def test_braces_in_a_command_stand_for_the_first_descriptor(path, file):
    """Also within an argument."""
    assert command_gets(path, [file], "--", "sh", "-c", 'cat "$1"; echo "$2"', "sh", "{}", "--in={}") == (
        0,
        "some text\n--in=/dev/fd/3\n",
        "",
    )


def test_with_stdin_a_command_gets_the_first_descriptor_as_standard_input(path, file):
    """Options before -- are those of recv, options after it those of the command."""
    assert command_gets(path, [file], "--stdin", "--", "wc", "-l")[:2] == (0, "1\n")


def test_recv_exits_as_its_command_does(path, file):
    """The process becomes the command by exec; SIGPIPE has its default action again."""
    code, out, _ = command_gets(path, [file], "--", "sh", "-c", "grep SigIgn /proc/self/status; exit 7")
    assert code == 7
    assert int(out.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0


def test_a_missing_command_is_an_error_of_one_sentence(path, file):
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


def test_place_moves_descriptors_to_their_numbers_whatever_overlaps():
    """For all overlaps of sources and targets: the right files, in order, and no other descriptor is left."""
    done = subprocess.run([sys.executable, "-c", PLACE], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_listening_socket_has_the_name_listener_for_a_command(path):
    with receiving(path, "--", "sh", "-c", "echo $LISTEN_FDS $LISTEN_FDNAMES") as recv:
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            socket.send_fds(sock, [b"x"], [listener.fileno(), 0])
        code, out, _ = finished(recv)
    assert code == 0
    assert out.split()[0] == "2"
    assert out.split()[1].startswith("listener:")
