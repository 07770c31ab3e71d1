"""Workers killed at random bytecodes, under clients of all kinds: no promise of custody is broken.

A violation is printed with its seed and all steps. The environment chooses what is played, with ``-k`` for the
configuration that the seed names:

FDPASS_KILLS_SEED        this scenario alone, again and again: the bytecode is the same, the time is not
FDPASS_KILLS_KIND        scenarios of this kind alone (see ``kinds`` in `_kill_http` and `_kill_lines`)
FDPASS_KILLS_FROM        other seeds
FDPASS_KILLS             how many workers shall die in the soak test, over all configurations
FDPASS_KILLS_VIOLATIONS  after so many it ends
"""

import os
from pathlib import Path

import pytest

from ._random_kills import ScenarioServer

HERE = Path(__file__).parent
KILLS = 16  # of each configuration
SOAK_KILLS = int(os.environ.get("FDPASS_KILLS", "2000"))  # of all
SEED = os.environ.get("FDPASS_KILLS_SEED")
KIND = os.environ.get("FDPASS_KILLS_KIND")
FROM = os.environ.get("FDPASS_KILLS_FROM", "0")
MOST_SCENARIOS = 12  # for each death
AGAIN = 40  # times that one seed is played
MOST_VIOLATIONS = int(os.environ.get("FDPASS_KILLS_VIOLATIONS", "5"))

CONFIGURATIONS = {
    "asgi-asyncio": ("asgi", "asyncio", False),
    "asgi-uvloop-proxy": ("asgi", "uvloop", True),
    "stream-asyncio-proxy": ("stream", "asyncio", True),
    "stream-uvloop": ("stream", "uvloop", False),
    "asgi-asyncio-proxy": ("asgi", "asyncio", True),
    "asgi-uvloop": ("asgi", "uvloop", False),
    "stream-asyncio": ("stream", "asyncio", False),
    "stream-uvloop-proxy": ("stream", "uvloop", True),
}


@pytest.fixture
def scenarios(serve, tools, tmp_path):
    """``scenarios(configuration)``: a server of this configuration, whose workers can be killed at a bytecode."""

    def start(name):
        interface, loop, proxied = CONFIGURATIONS[name]
        path = str(tmp_path / "unix")
        server = serve(
            "kills:app" if interface == "asgi" else "kills:handle",
            *("--workers", "2", "--spare", "2", "--loop", loop, "--keep-alive", "60"),
            *(("--proxy-protocol",) if proxied else ()),
            files={
                "kills.py": (HERE / "kills_app.py").read_text(),
                "countdown.py": (HERE / "kills_countdown.py").read_text(),
            },
            bind=["127.0.0.1:0", f"unix:{path}"],
        )
        return ScenarioServer(server, tools, path, interface, proxied)

    return start


def play(scenarios, name, kills):
    """Scenarios until so many workers have died."""
    tally = scenarios.tally
    seeds = (f"{FROM}/{name}/{number}" for number in range(kills * MOST_SCENARIOS))
    for seed in [SEED] * AGAIN if SEED else seeds:
        if KIND in {None, scenarios.kind(seed)}:
            scenarios.play(seed)
        if tally.deaths.total() >= kills or len(tally.violations) >= MOST_VIOLATIONS:
            break
    scenarios.settle()
    print(f"\n{name}: {tally.deaths.total()} deaths in {tally.scenarios} scenarios, {tally.doubles} with two;")
    print(f"  of {dict(tally.deaths)}; {dict(tally.outcomes)}")
    assert not tally.violations, "\n\n".join(tally.violations[:MOST_VIOLATIONS])
    assert SEED or KIND or tally.deaths.total() >= kills
    return tally


@pytest.mark.parametrize("name", list(CONFIGURATIONS)[:4])
def test_workers_killed_at_random_bytecodes_break_no_promise(scenarios, name):
    play(scenarios(name), name, KILLS)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_many_workers_killed_at_random_bytecodes_break_no_promise(scenarios, name):
    play(scenarios(name), name, SOAK_KILLS // len(CONFIGURATIONS))
