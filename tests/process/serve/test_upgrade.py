"""``fdpass upgrade``: new code takes over while the server serves; or does not start, and the old code stays."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import fdpass

from ._keeper_here import needs_keeper
from ._upgrades import Load, Tree, dispatcher_of, nothing_left_over, processes, version_of
from .conftest import LIMIT, alive, state_of, wait_until

pytestmark = needs_keeper

ADOPT = "        began = time.monotonic()"
DISPATCHER = "serve/dispatcher/dispatcher.py"
ADOPTION = "serve/dispatcher/adopted_workers.py"


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path / "tree")


@pytest.fixture
def upgradable(kept, tree):
    """As `kept`, with the code of the tree and a keeper."""
    return lambda *flags, **more: kept("--keeper", "on", *flags, env={"PYTHONPATH": str(tree.folder)}, **more)


def upgrade(server, *flags, check=True):
    return server.cli("upgrade", *flags, check=check)


def kill_dispatcher(server):
    dead = dispatcher_of(server)
    count = server.log().count("takes over from a dead one")
    os.kill(dead, signal.SIGKILL)
    server.wait_log("takes over from a dead one", count + 1)


def test_new_code_serves_and_no_client_notices(upgradable, tree, client):
    """Twice; and when its dispatcher dies, the keeper has another one of the new code made."""
    server = upgradable()
    with nothing_left_over(server, client, templates=1):
        workers = server.workers()
        with Load(server, client):
            for number in (1, 2):
                tree.be(f"9.{number}")
                said = upgrade(server).stdout
                before = f"9.{number - 1}" if number > 1 else fdpass.__version__
                assert f"the dispatcher has been upgraded from fdpass {before} to 9.{number}: " in said
                assert f"generation {number + 1} serves" in said
                assert version_of(server) == f"9.{number}"
            tree.be("9.3")
            kill_dispatcher(server)
        assert version_of(server) == "9.2"
        assert not set(workers) & set(server.workers())
    assert server.status()["server"]["pid"] == server.pid


def test_dispatcher_only_leaves_the_workers(upgradable, tree, client):
    server = upgradable()
    one = client(server)
    pid = one.ask().told()["pid"]
    tree.be("9.1")
    assert "fdpass reload replaces them" in upgrade(server, "--dispatcher-only").stdout
    assert version_of(server) == "9.1"
    assert one.ask().told()["pid"] == pid


BAD = [
    (DISPATCHER, "import logging", "import logging, no_such_module", "No module named 'no_such_module'"),
    (DISPATCHER, "import logging", "import", "SyntaxError"),
    ("serve/keeper/estate.py", "\nVERSION = 1", "\nVERSION = 77", "has layout 1, but fdpass"),
]


@pytest.mark.parametrize("flags", [(), ("--exec",)], ids=["", "exec"])
def test_code_that_does_not_start_is_refused(upgradable, tree, client, flags):
    server = upgradable()
    with nothing_left_over(server, client, templates=0), Load(server, client):
        dispatcher = dispatcher_of(server)
        for name, before, after, why in BAD:
            tree.change(name, before, after)
            told = upgrade(server, *flags, check=False)
            assert told.returncode == 1
            assert f"fdpass upgrade: fdpass {fdpass.__version__} keeps serving: " in told.stderr
            assert why in told.stderr
            tree.mend(name)
        assert server.log().count("upgrade: refused") == len(BAD)
        assert dispatcher_of(server) == dispatcher


def test_settings_that_are_not_allowed_are_refused(upgradable, tree, client):
    server = upgradable("--config", "settings.toml", files={"settings.toml": "spare = 0\n"})
    (server.folder / "settings.toml").write_text("spare = -1\n")
    for flags in ((), ("--exec",)):
        told = upgrade(server, *flags, check=False)
        assert told.returncode == 1
        assert "spare" in told.stderr
    client(server).ask().told()


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("raise RuntimeError('no good')", "3 times: RuntimeError: no good"),
        ("time.sleep(99)", "hung before it served"),
    ],
    ids=["raises", "hangs"],
)
def test_code_that_dies_in_adoption_is_rolled_back(upgradable, tree, client, bad, why):
    """To the code of the upgrade before, and not to the keeper's."""
    server = upgradable()
    with nothing_left_over(server, client, templates=1), Load(server, client):
        tree.be("9.1")
        upgrade(server)
        tree.be("9.2")
        tree.change(ADOPTION, ADOPT, f"        {bad}\n{ADOPT}")
        told = upgrade(server, check=False)
        assert told.returncode == 1
        assert "rolled back, fdpass 9.1 serves again: " in told.stderr
        assert why in told.stderr
        assert version_of(server) == "9.1"
        tree.mend(ADOPTION)
        upgrade(server)
        assert version_of(server) == "9.2"


def template_of(server):
    """The child of the keeper that is neither dispatcher nor worker."""
    status = server.status()
    known = {status["server"]["dispatcher"], *(worker["pid"] for worker in status["workers"])}
    (found,) = set(processes(server.pid)) - known
    return found


def test_a_template_that_dies_is_made_again(upgradable, tree, client):
    server = upgradable()
    with nothing_left_over(server, client, templates=1):
        tree.be("9.1")
        upgrade(server)
        os.kill(template_of(server), signal.SIGKILL)
        server.wait_log("in the place of fdpass", 2)
        kill_dispatcher(server)
        assert version_of(server) == "9.1"


def test_a_dispatcher_that_dies_while_the_code_is_read(upgradable, tree, client):
    """The template has files open: it is ended, and made again once another dispatcher serves."""
    server = upgradable()
    with nothing_left_over(server, client, templates=1), Load(server, client):
        tree.be("9.1")
        tree.change(DISPATCHER, "log = ", "time.sleep(1)\nlog = ")
        thread = threading.Thread(target=upgrade, args=(server,))
        thread.start()
        server.wait_log("upgrade: reading the new code")
        kill_dispatcher(server)
        thread.join(LIMIT)
        assert version_of(server) == "9.1"
    assert server.log().count("upgrade: reading the new code") == 2


def test_an_upgrade_waits_for_a_reload_whose_client_waits(upgradable, tree, client):
    slow = "import os, time\nwhile os.path.exists('slow'): time.sleep(0.01)\nfrom app import app\n"
    server = upgradable(files={"kept.py": slow})
    (server.folder / "slow").touch()
    said = {}
    threads = []
    for verb in ("reload", "upgrade"):
        thread = threading.Thread(target=lambda verb=verb: said.update({verb: server.cli(verb).stdout}))
        thread.start()
        threads.append(thread)
        server.wait_log({"reload": "reload: starting generation 2", "upgrade": "is ready"}[verb])
    (server.folder / "slow").unlink()
    for thread in threads:
        thread.join(LIMIT)
    assert said["reload"] == "generation 2 serves\n"
    assert "generation 3 serves" in said["upgrade"]


def test_a_stop_during_an_upgrade(upgradable, tree, client):
    server = upgradable()
    one = client(server).ask("/gate", "slow")
    server.wait_executed("slow")
    tree.change(DISPATCHER, "log = ", "time.sleep(99)\nlog = ")
    told = []
    thread = threading.Thread(target=lambda: told.append(upgrade(server, check=False)))
    thread.start()
    server.wait_log("upgrade: reading the new code")
    again = upgrade(server, check=False)
    assert (again.returncode, again.stderr) == (
        1,
        "fdpass upgrade: another upgrade is in progress: repeat the command when it has ended\n",
    )
    server.kill(signal.SIGTERM)
    thread.join(LIMIT)
    assert "the server is stopping" in told[0].stderr
    assert upgrade(server, check=False).stderr == "fdpass upgrade: the server is stopping\n"
    (server.folder / "slow.open").touch()
    assert one.told()["token"] == "slow"
    assert server.wait_end() == 0


def test_sigusr2_upgrades_and_reloads(upgradable, tree, client):
    server = upgradable()
    with nothing_left_over(server, client, templates=1), Load(server, client):
        tree.be("9.1")
        server.kill(signal.SIGUSR2)
        server.wait_log("reload: generation 2 serves")
        assert version_of(server) == "9.1"


def test_without_a_keeper_the_error_names_the_remedy(kept):
    server = kept("--keeper", "off")
    told = upgrade(server, check=False)
    assert told.returncode == 1
    assert "this server has no keeper, which an upgrade needs: restart the server, with --keeper on" in told.stderr


# With exec


def environ(server):
    return Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")


def facts(server):
    """What an exec leaves as it was."""
    proc = Path(f"/proc/{server.pid}")
    ours = [each for each in environ(server) if not each.startswith(b"FDPASS_HANDED_OVER=")]
    return ours, (proc / "cmdline").read_bytes(), os.readlink(proc / "cwd"), os.readlink(proc / "exe")


def test_exec_replaces_the_keeper_and_no_client_notices(upgradable, tree, client, tmp_path):
    """Twice; process number, environment, folder, pidfile, sockets and logs are those of before."""
    path = str(tmp_path / "sock")
    flags = ("--pidfile", "pid", "--access-log", "access")
    server = upgradable(*flags, bind=("127.0.0.1:0", f"unix:{path}"))
    before = facts(server)
    with nothing_left_over(server, client, templates=0), Load(server, client):
        unix = client(server, address=path)
        unix.ask(token="first").told()
        for number in (1, 2):
            tree.be(f"9.{number}")
            said = upgrade(server, "--exec").stdout
            assert "the keeper is replaced too: if the new code passes its check and fails later" in said
            assert f"to 9.{number}: " in said
            assert version_of(server) == f"9.{number}"
        kill_dispatcher(server)
        assert version_of(server) == "9.2"  # the keeper's own code
        unix.ask(token="last").told()
        unix.close()
    assert facts(server) == before
    assert client(server, address=path).ask().told()["token"] == "-"
    wait_until(lambda: "last" in (server.folder / "access").read_text(), "logged", str)
    assert (server.folder / "pid").read_text() == f"{server.pid}\n"
    assert server.stop() == 0
    assert not (server.folder / "pid").exists()
    assert not os.path.exists(path)
    assert not os.path.exists(server.control)


def test_signals_and_deaths_during_an_exec_are_not_lost(upgradable, tree, client):
    server = upgradable()
    tree.change(DISPATCHER, "log = ", "time.sleep(0.7)\nlog = ")
    one = client(server)
    pid = one.ask().told()["pid"]
    thread = threading.Thread(target=upgrade, args=(server, "--exec", "--dispatcher-only"))
    thread.start()
    handed = b"FDPASS_HANDED_OVER="
    wait_until(lambda: any(each.startswith(handed) for each in environ(server)), "exec: ", server.log)
    for number in (signal.SIGHUP, signal.SIGTTIN):
        server.kill(number)
    os.kill(pid, signal.SIGKILL)
    asked = one.ask()
    thread.join(LIMIT)
    assert asked.told()["pid"] != pid
    server.wait_log(f"worker {pid} ended (killed by SIGKILL)")
    server.wait_status(lambda status: [w["generation"] for w in status["workers"]] == [2, 2, 2])
    one.ask().told()


@pytest.mark.parametrize(
    "flags",
    [("--custody", "off"), ("--accept", "worker"), ("--loop", "uvloop", "--balance", "hash")],
    ids=["custody-off", "accept-worker", "uvloop"],
)
def test_other_modes(upgradable, tree, client, flags):
    """The workers stay: without custody, one that retires closes its connections."""
    server = upgradable(*flags)
    with nothing_left_over(server, client, templates=0), Load(server, client):
        for number, more in ((1, ()), (2, ("--exec",))):
            tree.be(f"9.{number}")
            upgrade(server, "--dispatcher-only", *more)
            assert version_of(server) == f"9.{number}"


@pytest.mark.parametrize("python", ["/nowhere/python", "false"])
def test_an_interpreter_that_does_not_start_is_refused(upgradable, client, python):
    server = upgradable()
    told = upgrade(server, "--exec", "--python", python, check=False)
    assert told.returncode == 1
    assert "keeps serving: " in told.stderr
    client(server).ask().told()


def others():
    """Other interpreters that have what fdpass imports, from FDPASS_TEST_PYTHONS and the path."""
    names = [*os.environ.get("FDPASS_TEST_PYTHONS", "").split(":"), "python3.11", "python3.12", "python3.13"]
    for name in filter(None, names):
        program = "import click, anyio, httptools, uvicorn, sys; print(sys.version_info[:2])"
        with contextlib.suppress(OSError):
            told = subprocess.run([name, "-c", program], capture_output=True, text=True, check=False).stdout
            if told and told.strip() != str(sys.version_info[:2]):
                yield name, told.strip("()\n").replace(", ", ".")


def test_exec_into_another_python(upgradable, client):
    name, version = next(others(), ("", ""))
    if not name:
        pytest.skip("there is no other Python that has the packages which fdpass needs")
    server = upgradable()
    with nothing_left_over(server, client, templates=0), Load(server, client):
        upgrade(server, "--exec", "--python", name)
    assert f"python{version}" in os.readlink(f"/proc/{server.pid}/exe")


PROGRAM = """
import sys
import fdpass.serve

def of(flag):
    return sys.argv[sys.argv.index(flag) + 1]

fdpass.serve.run("kept:app", keeper="on", workers=2, bind=[of("--bind")], control=of("--control"))
"""


def test_a_server_that_a_program_runs(upgradable, tree, client):
    """It has no command line: its settings are those of the call, and an exec runs the program again."""
    server = upgradable(files={"program.py": PROGRAM}, launch=(sys.executable, "program.py"))
    with nothing_left_over(server, client, templates=0), Load(server, client):
        for number, flags in ((1, ()), (2, ("--exec",))):
            tree.be(f"9.{number}")
            upgrade(server, *flags)
            assert version_of(server) == f"9.{number}"


LOGGING = """
version = 1
disable_existing_loggers = false
[handlers.file]
class = "logging.FileHandler"
filename = "server.log"
[root]
handlers = ["file"]
[loggers.fdpass]
propagate = true
"""


def test_the_keeper_has_no_log_files(upgradable, tree, client):
    """The numbers of files that a dispatcher closes could become clients', and the keeper would log into these."""
    server = upgradable("--log-config", "logging.toml", files={"logging.toml": LOGGING})
    file = server.folder / "server.log"
    (server.folder / "logging.toml").write_text("version = 1\n")
    tree.be("9.1")
    upgrade(server)
    clients = [client(server) for _ in range(10)]  # which have the lowest free numbers
    for one in clients:
        one.ask().told()
    kill_dispatcher(server)
    for one in clients:
        one.ask().told()
    assert "is ready (generation 1" in file.read_text()
    assert "9.1 serves in the place of" in server.log()
    assert "has ended (killed by SIGKILL)" in server.log()


def kill_keeper(server):
    pid = server.status()["server"]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: state_of(pid) in "ZX", "dead: ", lambda: state_of(pid))


def test_without_its_keeper_the_server_stops_and_the_template_ends(upgradable, tree, client):
    server = upgradable()
    tree.be("9.1")
    upgrade(server)
    pids = processes(server.pid)
    kill_keeper(server)
    wait_until(lambda: not any(map(alive, pids)), "ended, of ", lambda: list(filter(alive, pids)))


def test_a_dispatcher_of_new_code_becomes_the_keeper_and_is_upgraded(upgradable, tree, client):
    """``--orphan continue``: the new code is the keeper's, too."""
    server = upgradable("--orphan", "continue")
    one = client(server)
    one.ask().told()
    tree.be("9.1")
    upgrade(server)
    template = template_of(server)
    dispatcher = dispatcher_of(server)
    kill_keeper(server)
    wait_until(lambda: server.status()["server"]["pid"] == dispatcher, "the keeper: ", server.log)
    assert not alive(template)
    assert version_of(server) == "9.1"
    for number, flags in ((2, ()), (3, ("--exec",))):
        tree.be(f"9.{number}")
        upgrade(server, *flags)
        assert version_of(server) == f"9.{number}"
        assert server.status()["server"]["pid"] == dispatcher
        one.ask().told()
    pids = [dispatcher, *processes(dispatcher)]
    os.kill(dispatcher, signal.SIGTERM)
    one.close()
    wait_until(lambda: not any(map(alive, pids)), "ended, of ", lambda: list(filter(alive, pids)))
