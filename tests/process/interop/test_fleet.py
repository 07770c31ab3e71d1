"""Three hosts behind HAProxy, by examples/fleet: an upgrade of all, a death, hosts that come and go, held streams.

Hosts and balancer are network namespaces: see benchmarks/_fleet_hosts.py. The commands come from docs/fleet.md.
"""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))
try:
    import _fleet_hosts as fleet_hosts
    import _fleet_load as fleet_load
    from _fleet_namespaces import LIMIT, missing, wait_until
finally:
    sys.path.remove(str(ROOT / "benchmarks"))

EXCLUDING = (
    "    http-request disable-l7-retry unless { method GET HEAD OPTIONS }\n",
    "    use_backend unsafe unless { method GET HEAD OPTIONS }\n",
)
WAITING = 6  # requests of each method that are in progress when a host dies
EVEN = 0.10  # of the even share: how far a host may be from it


def namespaces():
    """The names of all fleets' namespaces."""
    found = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
    return {line.split(" ")[0] for line in found.splitlines() if line.startswith("fdpass-")}


def interfaces():
    return set(Path("/sys/class/net").iterdir())


@pytest.fixture
def fleet(tmp_path):
    """A running fleet; afterwards no namespace, no process inside, and no interface is left."""
    if why := missing():
        pytest.skip(why)
    before = interfaces()
    with fleet_hosts.fleet(tmp_path, capacity=400) as made:
        ours = {made.balancer.name, *(host.name for host in made.hosts.values())}
        assert ours <= namespaces()
        yield made
    assert not ours & namespaces()
    assert interfaces() == before


def upgrade_all(fleet, tmp_path):
    """Run the example's program, whose command asks this process to restart a host."""
    asked, done = tmp_path / "asked", tmp_path / "done"
    for path in (asked, done):
        subprocess.run(["mkfifo", path], check=True)
    unsafe = fleet_hosts.rolling_upgrade().Backend(fleet.backend.path, "unsafe")
    command = f"echo {{}} >{asked}; read line <{done}"
    program = [sys.executable, fleet_hosts.EXAMPLE / "rolling_upgrade.py", "--socket", fleet.backend.path]
    with subprocess.Popen([*program, "--", "bash", "-c", command], stdout=subprocess.PIPE, text=True) as upgrade:
        try:
            for _ in fleet.hosts:
                name = asked.read_text().strip()
                row = fleet.rows()[name]
                assert (row["status"], row["scur"]) == ("DRAIN", "0")
                assert unsafe.servers()[name]["status"].startswith("DRAIN")
                fleet.hosts[name].restart()
                done.write_text("\n")
            printed, _ = upgrade.communicate(timeout=LIMIT)
        finally:
            upgrade.kill()
    assert upgrade.returncode == 0
    return printed.splitlines()


def assert_executed_once(fleet, dead, *tallies):
    """Each POST with an answer was executed once. Only the dead host may have executed one that failed."""
    executed = fleet_load.executions(fleet, "POST")
    assert set(executed.values()) == {1}
    failed = {query for tally in tallies for query in tally.failed}
    there = {line.split(" ")[1] for line in dead.executed()} if dead else set()
    assert failed & executed.keys() == failed & there
    assert len(executed) == sum(tally.good["POST"] for tally in tallies) + len(failed & there)


def test_an_upgrade_of_all_hosts(fleet, tmp_path):
    """No client notices it. The application sees the client's address, not the balancer's."""
    pids = {name: host.process.pid for name, host in fleet.hosts.items()}
    with fleet_load.load(fleet, gets=4, posts=4) as tally:
        printed = upgrade_all(fleet, tmp_path)
    assert [line for line in printed if line.endswith(": serves")] == [f"{name}: serves" for name in pids]
    assert all(host.process.pid != pids[name] for name, host in fleet.hosts.items())
    assert tally.failed == {}
    assert min(tally.good["GET"], tally.good["POST"], *tally.hosts.values()) > 100
    assert_executed_once(fleet, None, tally)
    assert {line.split(" ")[2] for host in fleet.hosts.values() for line in host.executed()} == {"127.0.0.1"}


def test_a_host_dies_with_its_link(fleet):
    """Only POSTs that were in progress there fail; GETs are repeated elsewhere. The host comes back by itself."""
    dead = fleet.hosts["two"]
    with fleet_load.load(fleet, gets=4, posts=4) as tally:
        with fleet_load.waiting(fleet, WAITING, WAITING) as waiting:
            began = fleet_load.in_progress(fleet)
            there = {query for query, name in began.items() if name == dead.server}
            posts = {query for query in there if query.startswith("wp")}
            assert posts
            assert there - posts
            when = fleet.cut(dead)
            wait_until(
                lambda: (
                    not any(
                        name == dead.server and query in there - posts
                        for query, name in fleet_load.in_progress(fleet).items()
                    )
                ),
                "the dead host's GETs repeated elsewhere",
            )
            assert fleet.rows()[dead.server]["status"] == "DOWN"
        fleet.mend(dead)
        dead.serve()
        before = tally.hosts[dead.server]
        wait_until(lambda: tally.hosts[dead.server] > before, "requests for the host that came back")
    assert set(waiting.failed) == posts
    assert waiting.good == {"GET": WAITING, "POST": WAITING - len(posts)}
    assert all(query.startswith("p") and sent < when for query, sent in tally.began.items()), tally.failed
    assert_executed_once(fleet, dead, tally, waiting)


def test_a_host_removed_and_added_and_held_streams_spread_evenly(fleet):
    """No request fails. Streams are spread evenly, also over a host that came when others had streams already."""
    held = fleet_load.Held(fleet)
    try:
        held.open(60)
        assert fleet_load.unevenness(held.counts(), 3) <= EVEN
        held.close()
        with fleet_load.load(fleet, gets=2, posts=2) as tally:
            fleet.remove(fleet.hosts["three"])
            assert set(fleet.rows()) == {"one", "two"}
            held.open(100)
            assert fleet_load.unevenness(held.counts(), 2) <= EVEN
            before = tally.hosts["three"]
            fleet.add(fleet.hosts["three"])
            wait_until(lambda: tally.hosts["three"] > before, "requests for the new host")
            held.open(50)
            assert fleet_load.unevenness(held.counts(), 3) <= EVEN
        assert tally.failed == {}
        assert_executed_once(fleet, None, tally)
        wait_until(
            lambda: all(80 <= int(row["weight"]) <= 90 for row in fleet.rows().values()),
            "weights of 50 streams of 400",
        )
    finally:
        held.close()


def test_a_failure_leaves_no_namespace(tmp_path):
    """A fleet whose block fails is removed, too."""
    if why := missing():
        pytest.skip(why)
    before = namespaces()

    def fail():
        with fleet_hosts.fleet(tmp_path, running=False) as made:
            asleep.append(made.balancer.start("sleep", "1000"))
            raise ValueError

    asleep = []
    with pytest.raises(ValueError):
        fail()
    assert asleep[0].wait(LIMIT) == -signal.SIGKILL
    assert namespaces() <= before


def test_haproxy_accepts_the_configuration(tool, tmp_path):
    """For a user who may make no namespaces, too."""
    checked = subprocess.run(
        [tool("haproxy"), "-c", "-f", fleet_hosts.EXAMPLE / "haproxy.cfg"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def test_no_example_lets_haproxy_repeat_a_post():
    """Each configuration that repeats requests after an answer, or the lack of one, excludes unsafe methods."""
    texts = {
        path: path.read_text(encoding="utf-8")
        for pattern in ("docs/*.md", "examples/**/*.cfg", "*.md")
        for path in ROOT.glob(pattern)
    }
    repeating = {path.name for path, text in texts.items() if "    retry-on " in text}
    assert repeating == {"haproxy.cfg", "dashboard.md"}
    for path, text in texts.items():
        if "    retry-on " in text:
            assert any(line in text for line in EXCLUDING), path
