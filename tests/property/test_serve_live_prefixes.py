"""A worker with an open stream dies after any store, any act of the kernel, any step of the application.

What is decided then is right, in every scenario; and the next worker goes on rightly.
"""

import pytest

pytest.importorskip("httptools")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from fdpass.serve.dispatcher.recovery import Action

from ._live_scenarios import PLACES, fresh, streams
from ._live_world import LiveWorld

STREAMS = streams()


def some(count, most):
    """Numbers from 1 to `count`, about `most` of them, the last one included."""
    return sorted({count, *range(1, count + 1, 1 + count // most)})


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("stream", STREAMS)
def test_after_a_death_the_next_worker_goes_on_rightly(stream, place):
    """And what would be decided at each other moment is right, in each of these lives."""
    whole = LiveWorld(fresh(stream), **PLACES[place]).run()
    for step in some(whole.steps, 3):
        LiveWorld(fresh(stream), deaths={step}, **PLACES[place]).run()


@pytest.mark.parametrize("stream", STREAMS)
def test_a_worker_that_dies_before_it_has_begun_costs_nothing(stream):
    """Nor do two of them."""
    for step in (9, 20, 33):
        first = LiveWorld(fresh(stream), deaths={step}).run()
        world = LiveWorld(fresh(stream), deaths={step}, stillborn={2, 3}).run()
        if first.outcome in {Action.IDLE, Action.REPLAY} and not first.was_reset:
            assert world.outcome in {Action.IDLE, Action.REPLAY}
            assert world.workers == 4


@pytest.mark.parametrize("stream", STREAMS)
def test_the_deaths_of_two_workers_and_of_three(stream):
    for step in (9, 20, 33):
        for later in (3, 11):
            LiveWorld(fresh(stream), deaths={step, step + later, step + 2 * later}).run()


@pytest.mark.parametrize("place", ["at once", "slow client", "unix"])
@pytest.mark.parametrize("stream", STREAMS)
def test_a_retiring_worker_gives_a_stream_back_at_the_right_moment(stream, place):
    """Whatever it was doing when it was told to leave: nothing is lost, and nothing comes twice.

    An event stream moves only just before it would be cut; a WebSocket that has not moved by then is ended.
    """
    patience = 0 if stream.startswith("feed ") else 1e6
    for move in (3, 9, 17, 26):
        LiveWorld(fresh(stream), leaves={move}, patience=patience, **PLACES[place]).run()


@pytest.mark.parametrize("stream", STREAMS)
def test_a_death_after_a_move(stream):
    """The second worker, which got the stream from a retiring one, dies; and that of the other order."""
    for move in (9, 17):
        for step in (14, 30):
            LiveWorld(fresh(stream), leaves={move}, deaths={step}).run()


@pytest.mark.soak
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("stream", STREAMS)
def test_after_a_death_at_each_moment_the_next_worker_goes_on_rightly(stream, place):
    whole = LiveWorld(fresh(stream), **PLACES[place]).run()
    for step in range(1, whole.steps + 1):
        LiveWorld(fresh(stream), deaths={step}, **PLACES[place]).run()
    for move in range(1, whole.moves + 1):
        LiveWorld(fresh(stream), leaves={move}, **PLACES[place]).run()
