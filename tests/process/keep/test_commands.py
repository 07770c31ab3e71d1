"""`fdpass keep list`, `take` and `drop`, and the errors of the command line."""

import json
import os
import subprocess
import sys

import pytest

from fdpass import connect

COMMAND = [sys.executable, "-m", "fdpass", "keep"]


def run(*words, **options):
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=60, **options)


def test_list_shows_the_program_its_listeners_and_what_is_stored(keeping):
    keep = keeping("--listen", "web=127.0.0.1:0", "--store-max", 5)
    pid, _ = keep.started()
    keep.tell("notify('READY=1\\nSTATUS=3 \\x1b[31mred clients'); store('state', file_of('x')); say('')")
    keep.line()
    keep.tell("a, b = socket.socketpair(); store('client', a); barrier(); say('')")
    keep.line()
    shown = keep.run("list").stdout.splitlines()
    assert f"process {pid}, ready: 3 \\x1b[31mred clients; 1 start; 2 of 5 descriptors stored" in shown[0]
    assert shown[1].split() == ["NAME", "KIND", "HELD", "WHAT"]
    assert [line.split()[:3] for line in shown[2:]] == [
        ["web", "listener", "always"],
        ["state", "memfd", "stored"],
        ["client", "socket", "until"],
    ]
    found = json.loads(keep.run("list", "--json").stdout)
    assert found["program"] == {
        "command": found["program"]["command"],
        "pid": pid,
        "state": "ready",
        "status": "3 \x1b[31mred clients",
        "starts": 1,
    }
    assert found["keep"]["pid"] == keep.process.pid
    assert found["listeners"][0]["what"].startswith("127.0.0.1:")


def test_take_prints_a_stored_file_and_removes_it_from_the_store(told):
    told.ask("store('note', file_of('hello\\n')); store('other', file_of('x')); say('')")
    done = told.run("take", "note")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
    assert told.names() == ["other"]


def test_take_runs_a_command_with_all_descriptors_of_the_name(told):
    told.ask("notify('FDSTORE=1\\nFDNAME=n', [file_of('one'), file_of('two')]); barrier(); say('')")
    done = told.run("take", "n", "--", "sh", "-c", "echo $LISTEN_FDS; cat /dev/fd/4 /dev/fd/3")
    assert (done.returncode, done.stdout) == (0, "2\ntwoone")
    assert told.names() == []


def test_nonsense_of_a_client_is_refused_and_survived(told):
    """Another version of the command, or another program."""
    for request in (
        *(
            {"do": "drop", "numbers": 5},
            {"do": "drop", "numbers": ["x", None, -1]},
            {"do": "take"},
            {"do": "juggle"},
        ),
        *({"do": "juggle"}, [], 7, {"do": []}, {"do": "drop", "name": {}}),
    ):
        with connect(told.control) as channel:
            channel.settimeout(60)
            channel.send(json.dumps(request).encode())
            assert json.loads(channel.recv().data)["ok"] in {False, True}
    assert told.ask("say('alive')") == "alive"
    assert told.list()["program"]["starts"] == 1


def test_drop_closes_what_has_the_name(told):
    told.ask("r, w = os.pipe(); store('w', w, '\\nFDPOLL=0'); os.close(w); say('')")
    done = told.run("drop", "w")
    assert (done.returncode, done.stdout) == (0, "dropped 1 descriptor\n")
    assert told.ask("say(os.read(r, 1))") == "b''"
    assert told.names() == []


def test_take_prints_no_socket_and_leaves_it_in_the_store(told):
    """It would read what the program's client has sent."""
    told.ask("a, b = socket.socketpair(); store('client', a); barrier(); say('')")
    done = told.run("take", "client")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'client' is a socket, which cannot be printed: give a COMMAND after --." in done.stderr
    assert told.names() == ["client"]


@pytest.mark.parametrize("verb", ["take", "drop"])
def test_an_unknown_name_is_an_error_of_one_sentence(keeping, verb):
    keep = keeping("--listen", "web=127.0.0.1:0")
    keep.started()
    done = keep.run(verb, "none")
    assert (done.returncode, done.stderr) == (1, "fdpass keep: no stored descriptor has the name 'none'\n")
    assert "a listener has it, which stays" in keep.run(verb, "web").stderr


def test_without_a_running_keep_the_commands_say_so(tmp_path):
    done = run("list", "--control", str(tmp_path / "none"))
    assert done.returncode == 1
    assert done.stderr == (
        f"fdpass keep: no fdpass keep answers at {tmp_path}/none: "
        "start one, or give its control socket with --control\n"
    )


@pytest.mark.parametrize("verb", ["status", "reload", "stop"])
def test_a_command_for_a_server_is_refused_in_a_sentence(told, verb):
    words = [*COMMAND[:-1], verb, "--control", told.control]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"fdpass {verb}: this is the control socket of fdpass keep, not of fdpass serve: "
        "give another one with --control\n"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["--listen", "80"], "write [NAME=]HOST:PORT"), (["--store-max", "999999999"], "cannot fit")],
    ids=["listen", "store-max"],
)
def test_a_setting_that_cannot_be_is_a_usage_error(tmp_path, words, sentence):
    """And leaves no file."""
    done = run("--control", str(tmp_path / "c"), *words, "--", "true")
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_word_run_and_the_default_control_socket(tmp_path):
    """In the runtime folder of the user."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = run("run", "--log-json", "--", "sh", "-c", "echo $NOTIFY_SOCKET", env=environment)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/fdpass-keep.sock.notify\n")
    first = json.loads(done.stderr.splitlines()[0])
    assert first["level"] == "info"
    assert f"its control socket is {tmp_path}/fdpass-keep.sock" in first["message"]


def test_an_abstract_control_socket_needs_no_folder():
    """For containers whose file system is read-only."""
    name = f"@fdpass-keep-{os.getpid()}"
    inner = f'echo $NOTIFY_SOCKET; {sys.executable} -m fdpass keep list --json --control "{name}"'
    done = run("--control", name, "--", "sh", "-c", inner)
    assert done.returncode == 0
    address, listed = done.stdout.splitlines()
    assert address == f"{name}.notify"
    assert json.loads(listed)["program"]["state"] == "running"


def test_the_command_works_without_what_only_the_server_needs(tmp_path):
    """The extra ``serve``: rich, uvicorn and others."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in ("rich", "uvicorn", "uvloop", "httptools", "websockets"):
        (blocked / f"{name}.py").write_text("raise ImportError('not installed')")
    environment = {**os.environ, "PYTHONPATH": f"{blocked}:{os.environ.get('PYTHONPATH', '')}"}
    inner = f"{sys.executable} -m fdpass keep list --control {tmp_path}/c"
    done = run("--control", f"{tmp_path}/c", "--", "sh", "-c", inner, env=environment)
    assert done.returncode == 0, done.stderr
    assert "1 start; 0 of 512 descriptors stored" in done.stdout
