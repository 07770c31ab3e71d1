"""``fdpass demo serve --against uvicorn``: both servers get the same, and nothing is left over."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

DEMO = [sys.executable, "-m", "fdpass", "demo", "serve", "--once", "--against", "uvicorn"]
LIMIT = 120


def rows(output):
    """For each line of the summary: the figure of fdpass, and that of uvicorn."""
    pattern = r"^(requests answered|connections lost|errors) +([\d,]+) +([\d,]+)$"
    found = re.findall(pattern, output, re.MULTILINE)
    return {name: tuple(int(figure.replace(",", "")) for figure in figures) for name, *figures in found}


def members(group):
    """The processes of a session."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, session = (entry / "stat").read_text().rpartition(")")[2].split()[0:4:3]
            except OSError:
                continue
            if int(session) == group and state != "Z":
                found.add(int(entry.name))
    return found


def test_each_server_has_a_column():
    done = subprocess.run(
        [*DEMO, "--seconds", "4"], capture_output=True, text=True, timeout=LIMIT, start_new_session=True
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert re.search(r"^ +fdpass +uvicorn$", done.stdout, re.MULTILINE)
    told = rows(done.stdout)
    assert told["requests answered"][0] > 0
    assert told["requests answered"][1] > 0
    assert told["connections lost"][0] == told["errors"][0] == 0
    kills = int(re.search(r"^(\d+) workers? killed", done.stdout, re.MULTILINE)[1])
    if kills:
        assert told["connections lost"][1] > 0
        assert re.search(r"^errors of uvicorn: \d+ ", done.stdout, re.MULTILINE)


def test_a_signal_ends_the_servers_too(tmp_path):
    """SIGTERM, as by timeout(1), ends the demonstration and all that it has started."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([*DEMO, "--seconds", "3600"], env=environment, start_new_session=True) as command:
        try:
            while len(members(command.pid)) < 6:  # the demonstration, two main processes, workers
                assert command.poll() is None
            command.terminate()
            assert command.wait(LIMIT) == -signal.SIGTERM
        finally:
            command.kill()
    deadline = time.monotonic() + LIMIT
    while left := members(command.pid):  # uvicorn's workers end by themselves
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []
