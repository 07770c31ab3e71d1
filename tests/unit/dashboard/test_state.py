"""What the checks say of a server, by its status."""

import pytest

from fdpass._dashboard.state import silent, state_of

from ._statuses import old_status, status, worker

STARTING = [worker(1, state="starting"), worker(2, state="retiring")]


@pytest.mark.parametrize(
    ("given", "name", "why", "line"),
    [
        (status(), "serving", "2 of 2 workers ready", "ready up 80%\n"),
        (status(server__stopping=True), "stopping", "the server is stopping", "drain\n"),
        (status(workers=STARTING), "starting", "no worker is ready", "down #no worker is ready\n"),
        (status(1, server__workers_wanted=4), "serving", "1 of 4 workers ready", "ready up 20%\n"),
        (status(3, server__workers_wanted=2), "serving", "2 of 2 workers ready", "ready up 80%\n"),
        (status(connections__live=100), "serving", "2 of 2 workers ready", "ready up 1%\n"),
        (status(connections__live=0), "serving", "2 of 2 workers ready", "ready up 100%\n"),
        (old_status(), "serving", "2 of 2 workers ready", "ready up 100%\n"),
    ],
)
def test_state_and_line_follow_the_status(given, name, why, line):
    state = state_of(given)
    assert (state.name, state.why, state.agent_line) == (name, why, line)
    assert state.ready is (name == "serving")


def test_capacity_takes_the_place_of_the_servers_limit():
    assert state_of(status(connections__live=30), capacity=40).weight == 25
    assert state_of(status(connections__live=50), capacity=40).weight == 1


def test_a_silent_server_is_down():
    state = silent("no server listens at /run/shop.sock")
    assert not state.ready
    assert state.agent_line == "down #no server listens at /run/shop.sock\n"
