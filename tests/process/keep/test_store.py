"""The descriptor store of `fdpass keep`: each field of sd_notify(3), with a program that is killed in between."""

import socket
import subprocess
import sys


def test_a_stored_descriptor_is_given_back_after_kill_9(told):
    """It is the same open file: the offset is where the dead program left it."""
    told.tell("fd = file_of('hello'); os.lseek(fd, 2, 0); store('memory', fd); say('stored')")
    assert told.line() == "stored"
    _, given = told.kill(told.pid)
    assert given == ["memory:memfd"]
    assert told.ask("say(os.read(by_name['memory'].fileno(), 100).decode())") == "llo"


def test_a_descriptor_that_was_sent_just_before_the_death_is_stored(told):
    """The program does not wait: its notification is in the socket's queue when it dies."""
    told.tell("notify('FDSTORE=1\\nFDNAME=last', [file_of('x')]); os.kill(os.getpid(), 9)")
    assert told.started()[1] == ["last:memfd"]


def test_descriptors_come_back_in_the_order_in_which_they_were_stored(told):
    told.tell("[store(name, file_of(name)) for name in 'cab']; say('stored')")
    told.line()
    assert told.kill(told.pid)[1] == ["c:memfd", "a:memfd", "b:memfd"]


def test_a_descriptor_without_a_name_is_called_stored(told):
    """Also one with a name that is not valid: with a colon, a control character, or 256 characters."""
    told.tell("notify('FDSTORE=1', [file_of('x')]); store('a:b', file_of('x')); say('done')")
    told.line()
    told.tell(
        "store('t\\tb', file_of('x')); store('n' * 256, file_of('x')); store('n' * 255, file_of('x')); say('')"
    )
    told.line()
    assert told.names() == ["stored"] * 4 + ["n" * 255]
    assert "not valid" in told.log("ignored FDNAME")


def test_one_notification_can_store_several_descriptors(told):
    told.tell("notify('FDSTORE=1\\nFDNAME=two', [file_of('1'), file_of('2')]); barrier(); say('')")
    told.line()
    assert told.kill(told.pid)[1] == ["two:memfd", "two:memfd"]
    told.tell("say(*(os.pread(each.fd.fileno(), 9, 0).decode() for each in given))")
    assert told.line() == "1 2"


def test_a_descriptor_that_is_stored_already_is_not_stored_again(told):
    """Programs store at each start what they were given. Another open file of the same file is stored."""
    told.tell("fd = file_of('x'); store('first', fd); store('second', fd); store('dup', os.dup(fd)); say('')")
    told.line()
    assert told.names() == ["first"]
    told.tell("store('third', os.open(f'/proc/self/fd/{fd}', os.O_RDWR)); say('')")
    told.line()
    assert told.names() == ["first", "third"]
    told.tell("store('a', os.eventfd(0)); store('b', os.eventfd(0)); say('')")
    told.line()
    assert told.names() == ["first", "third", "a", "b"]


def test_fdstoreremove_removes_all_with_the_name_and_closes_them(told):
    told.tell(
        "r, w = os.pipe(); store('pipe', w, '\\nFDPOLL=0'); store('other', file_of('x')); os.close(w); say('')"
    )
    told.line()
    told.tell("notify('FDSTOREREMOVE=1\\nFDNAME=pipe'); say(os.read(r, 1))")  # at its end: no writer is left
    assert told.line() == "b''"
    assert told.names() == ["other"]
    told.tell("notify('FDSTOREREMOVE=1'); barrier(); say('')")
    told.line()
    assert told.names() == ["other"]
    assert "it needs FDNAME" in told.log("ignored FDSTOREREMOVE")


def test_one_notification_can_replace_a_descriptor(told):
    """It removes what has the name, and stores what came with it."""
    told.tell("store('state', file_of('old')); store('state', file_of('new'), '\\nFDSTOREREMOVE=1'); say('')")
    told.line()
    assert told.names() == ["state"]
    told.kill(told.pid)
    assert told.ask("say(os.pread(by_name['state'].fileno(), 9, 0).decode())") == "new"


def test_a_descriptor_whose_peer_has_ended_is_removed_unless_fdpoll_is_0(told):
    """EPOLLERR of a pipe whose reader is gone, EPOLLHUP of a socket whose peer is gone."""
    told.tell("r, w = os.pipe(); a, b = socket.socketpair(); store('w', w); store('a', a); say('')")
    told.line()
    told.tell("r2, w2 = os.pipe(); store('w2', w2, '\\nFDPOLL=0'); store('file', file_of('x')); say('')")
    told.line()
    assert [(each["name"], each["polled"]) for each in told.list()["stored"]] == [
        *(("w", True), ("a", True)),
        *(("w2", False), ("file", False)),
    ]
    told.tell("[os.close(each) for each in (r, r2)]; b.close(); barrier(); say('')")
    told.line()
    assert told.names() == ["w2", "file"]
    assert told.kill(told.pid)[1] == ["w2:pipe", "file:memfd"]


def test_a_connection_in_one_direction_is_not_at_its_end(told):
    """A client that has sent everything may still read."""
    told.tell("a, b = socket.socketpair(); store('a', a); b.shutdown(1); barrier(); say('')")
    told.line()
    assert told.names() == ["a"]


def test_barrier_closes_its_descriptor_after_all_before(told):
    """The store is complete then. BARRIER=1 with other assignments is ignored; its descriptor is closed, too."""
    told.tell("[notify('FDSTORE=1\\nFDNAME=n', [file_of('x')]) for _ in range(100)]; barrier(); say('done')")
    assert told.line() == "done"
    assert told.names() == ["n"] * 100
    told.tell("r, w = os.pipe(); notify('BARRIER=1\\nREADY=1', [w], give=True); say(os.read(r, 1))")
    assert told.line() == "b''"
    assert told.list()["program"]["state"] == "running"
    told.tell("r, w = os.pipe(); notify('BARRIER=1', [w, 0]); os.close(w); say(os.read(r, 1))")
    assert told.line() == "b''"
    assert told.log("came with 2 descriptors instead of 1")


def test_a_notification_that_systemd_would_ignore_is_ignored_with_a_line(told):
    """Longer than 4096 bytes, or with a zero byte. One zero at the end is allowed."""
    told.tell(
        "notify(b'STATUS=a\\0b'); notify(b'X=' + b'x' * 4095); notify(b'STATUS=fine\\0'); barrier(); say('')"
    )
    told.line()
    assert told.list()["program"]["status"] == "fine"
    assert told.log("it has a zero byte")
    assert told.log("it is longer than 4096 bytes")


def test_descriptors_without_fdstore_are_closed(told):
    told.tell("r, w = os.pipe(); notify('STATUS=x', [w], give=True); say(os.read(r, 1))")
    assert told.line() == "b''"
    assert told.names() == []


def test_a_burst_of_253_descriptors_is_stored_whole(told):
    """As many as one message carries."""
    told.tell("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))")
    told.tell("notify('FDSTORE=1\\nFDNAME=n', [file_of(str(i)) for i in range(253)]); barrier(); say('')")
    told.line()
    _, given = told.kill(told.pid)
    assert given == ["n:memfd"] * 253
    told.tell("say(all(os.pread(e.fd.fileno(), 9, 0).decode() == str(i) for i, e in enumerate(given)))")
    assert told.line() == "True"


def test_a_full_store_refuses_with_a_line_and_keeps_what_it_has(keeping):
    keep = keeping("--store-max", 3)
    pid, _ = keep.started()
    assert keep.ask("say(os.environ['FDSTORE'])") == "3"
    keep.tell("notify('FDSTORE=1\\nFDNAME=n', [file_of(str(i)) for i in range(5)]); barrier(); say('')")
    keep.line()
    assert "2 descriptors called 'n' of this notification were not stored" in keep.log("the store is full")
    assert keep.kill(pid)[1] == ["n:memfd"] * 3
    keep.tell("notify('FDSTOREREMOVE=1\\nFDNAME=n'); store('again', file_of('x')); say('')")
    keep.line()
    assert keep.names() == ["again"]


def test_a_store_as_large_as_the_limit_on_open_files_permits_can_be_given_back(keeping):
    """The child that becomes the program has no room for a second set of descriptors."""
    keep = keeping("--store-max", 643, prefix=["sh", "-c", 'ulimit -n 1024; exec "$@"', "-"])
    pid, _ = keep.started()
    keep.tell("[notify('FDSTORE=1', [file_of('x') for _ in range(80)], give=True) for _ in range(9)]; barrier(); say('')")  # fmt: skip  # noqa: E501
    keep.line()
    assert len(keep.names()) == 643
    assert keep.kill(pid)[1] == ["stored:memfd"] * 643


def test_names_that_do_not_fit_into_one_variable_are_refused(keeping):
    """execve(2) would fail with E2BIG, at each start."""
    keep = keeping("--store-max", 600)
    pid, _ = keep.started()
    keep.tell("[notify('FDSTORE=1\\nFDNAME=' + 'n' * 255, [file_of('x') for _ in range(60)]) for _ in range(9)]; barrier(); say('')")  # fmt: skip  # noqa: E501
    keep.line()
    count = len(keep.names())
    assert 400 < count < 500
    assert keep.log("the store is full")
    assert len(keep.kill(pid)[1]) == count


def test_a_full_descriptor_table_loses_descriptors_with_a_line_and_nothing_else(keeping, tmp_path):
    """The limit of `fdpass keep` is lowered from outside, as by prlimit(1)."""
    keep = keeping("--store-max", 200)
    pid, _ = keep.started()
    import resource

    resource.prlimit(keep.process.pid, resource.RLIMIT_NOFILE, (40, 4096))
    keep.tell("notify('FDSTORE=1\\nFDNAME=n', [file_of(str(i)) for i in range(60)]); barrier(); say('')")
    keep.line()
    assert "raise the limit" in keep.log("were lost (table full)")
    resource.prlimit(keep.process.pid, resource.RLIMIT_NOFILE, (1024, 4096))
    count = len(keep.names())
    assert 0 < count < 60
    assert keep.kill(pid)[1] == ["n:memfd"] * count


STRANGER = """
import os, socket, sys
os.setgroups([]), os.setgid(65534), os.setuid(65534)
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.connect(sys.argv[1] + ".notify")
socket.send_fds(sender, [b"FDSTORE=1\\nFDNAME=evil"], [1])
sender.send(b"FDSTOREREMOVE=1\\nFDNAME=secret")
try:
    socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(sys.argv[1])
except PermissionError:
    print("refused")
"""


def test_another_user_can_neither_store_nor_command(keeping, open_folder):
    """Both socket files are in a folder that every user may enter: credentials, and the file's mode, decide."""
    keep = keeping(folder=open_folder)
    keep.started()
    keep.tell("store('secret', file_of('x')); say('')")
    keep.line()
    words = ["-W", "ignore", "-c", STRANGER, keep.control]
    assert subprocess.check_output([sys.executable, *words], timeout=60) == b"refused\n"
    assert "of uid 65534" in keep.log("refused a notification")
    assert keep.ask("barrier(); say('handled')") == "handled"
    assert keep.names() == ["secret"]


FORK = (
    "os.setgid(65534); os.setuid(65534); child = os.fork(); "
    "child or (notify('FDSTORE=1\\nFDNAME=child', [file_of('y')]), os._exit(0)); "
    "os.waitpid(child, 0); store('own', file_of('x')); say('')"
)


def test_a_program_that_gives_up_root_still_stores_and_its_children_do_not(keeping, open_folder):
    """The program's own process counts as whatever user."""
    keep = keeping(folder=open_folder)
    keep.started()
    keep.ask(FORK)
    assert keep.names() == ["own"]


def test_another_user_can_be_admitted(keeping, open_folder):
    keep = keeping("--store-user", "nobody", folder=open_folder)
    keep.started()
    keep.ask(FORK)
    assert keep.names() == ["child", "own"]


def test_a_client_that_connected_before_kill_9_gets_its_answer_after_it(keeping):
    """One was accepted and stored, one waits in the backlog of the listener."""
    keep = keeping("--listen", "web=127.0.0.1:0")
    pid, given = keep.started()
    assert given == ["web:listener"]
    host, port = keep.ask("web = by_name['web'].socket(); say(*web.getsockname())").split()
    with socket.create_connection((host, int(port))) as stored, socket.socket() as waiting:
        keep.tell("one = web.accept()[0]; store('connection', one); say('stored')")
        assert keep.line() == "stored"
        stored.sendall(b"a question")
        waiting.connect((host, int(port)))
        _, given = keep.kill(pid)
        assert given == ["web:listener", "connection:socket"]
        keep.tell("one = by_name['connection'].socket(); one.sendall(b're: ' + one.recv(99)); one.shutdown(2)")
        assert stored.makefile("rb").read() == b"re: a question"
        keep.tell("web = by_name['web'].socket(); web.accept()[0].sendall(b'welcome')")
        assert waiting.recv(99) == b"welcome"
        keep.tell("barrier(); say('')")
        keep.line()
        assert keep.names() == []  # the connection was shut down, so that it has ended
