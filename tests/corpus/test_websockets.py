"""WebSocket cases: what passes on a path that is not resumed passes on one that is, in one worker or in many."""

import contextlib
import logging

import pytest

from .quiet import quiet_loop

pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from .live import Live
from .websockets import CASES, SECTIONS

KNOWN = {  # of uvicorn's class with `websockets`
    "closing: a close frame between fragments",  # 1002
    "closing: a message and a close frame in one piece",  # the application cannot answer the message any more
}
LONG = 1 << 20  # bytes: longer cases are played in one worker


async def echo(scope, receive, send):
    """The same back."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send(
            {"type": "websocket.send", **{kind: message[kind] for kind in ("text", "bytes") if kind in message}}
        )


@pytest.fixture
def live():
    """One connection after the other, of an application that echoes."""
    logging.disable(logging.CRITICAL)
    with quiet_loop() as loop, contextlib.ExitStack() as held:
        yield Live(loop, echo, held)
    logging.disable(logging.NOTSET)


def of(section):
    return {name: case for name, case in CASES.items() if name.startswith(f"{section}:")}


@pytest.mark.parametrize("section", SECTIONS)
def test_what_passes_on_a_path_that_is_not_resumed_passes_on_one_that_is(live, section):
    wrong = []
    for name, case in of(section).items():
        plain, resumed = live.play("/plain", case), live.play("/live", case)
        if case.expected is not None and plain.passes(case.expected) and not resumed.passes(case.expected):
            wrong.append(f"{name}: {plain}, but {resumed}")
        elif not case.offer and plain.seen != resumed.seen:
            wrong.append(f"{name}: {plain}, but differently {resumed}")
    assert not wrong


@pytest.mark.parametrize("section", SECTIONS)
def test_all_cases_but_a_few_known_ones_pass(live, section):
    """Those of uvicorn's class that do not are named here, so that nothing is hidden by a comparison alone."""
    failed = {
        name
        for name, case in of(section).items()
        if case.expected is not None and not live.play("/plain", case).passes(case.expected)
    }
    assert failed <= KNOWN, sorted(failed - KNOWN)


@pytest.mark.parametrize(("happens", "most"), [("retire", 9), ("die", 3)])
@pytest.mark.parametrize("section", SECTIONS)
def test_it_is_the_same_if_other_workers_go_on_in_the_middle(live, section, happens, most):
    """Each case is played with one of both; a fourth death in a row, without a message done, would be 1012."""
    wrong = []
    for name, case in list(of(section).items())[happens == "die" :: 2]:
        if sum(map(len, case.sent)) > LONG:
            continue
        plain, moved = live.play("/plain", case), live.play("/live", case, happens, most).without_repeated_pongs()
        if case.expected is not None and plain.passes(case.expected) and not moved.passes(case.expected):
            wrong.append(f"{name}: {plain}, but {moved}")
        elif not case.offer and plain.seen != moved.seen:
            wrong.append(f"{name}: {plain}, but differently {moved}")
    assert not wrong
