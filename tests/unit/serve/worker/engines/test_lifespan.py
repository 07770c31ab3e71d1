"""`Lifespan`: what applications may do in their lifespan, and what comes of it."""

import asyncio
import logging

import pytest

from fdpass.serve.worker.application import StartupFailed
from fdpass.serve.worker.engines.lifespan import Lifespan


async def complete(scope, receive, send):
    scope["state"]["database"] = "open"
    assert (scope["type"], scope["asgi"]["version"]) == ("lifespan", "3.0")
    for stage in ("startup", "shutdown"):
        assert await receive() == {"type": f"lifespan.{stage}"}
        await send({"type": f"lifespan.{stage}.complete"})


async def returns(scope, receive, send):
    await receive()


async def raises(scope, receive, send):
    raise LookupError("no table")


async def reports(scope, receive, send):
    """As Starlette: it reports its traceback, then raises the error."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
    raise LookupError("no table")


async def reports_nothing(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed"})
    await asyncio.Event().wait()


async def exits(scope, receive, send):
    raise SystemExit(3)


async def answers_another_question(scope, receive, send):
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def and_then(end):
    """An application whose start succeeds; then ``end(receive, send)`` runs."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await end(receive, send)

    return app


async def _reports_at_the_end(receive, send):
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "not saved"})


async def _reports_nothing_at_the_end(receive, send):
    await receive()
    await send({"type": "lifespan.shutdown.failed"})


async def _raises_at_the_end(receive, send):
    await receive()
    raise LookupError("not saved")


async def _hangs_at_the_end(receive, send):
    await receive()
    await asyncio.Event().wait()


async def _raises_meanwhile(receive, send):
    raise LookupError("lost")


async def _answers_twice(receive, send):
    await send({"type": "lifespan.startup.complete"})


async def _goes_on(receive, send):
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
    await asyncio.Event().wait()


async def _start(app, setting):
    lifespan = Lifespan(app, setting)
    await lifespan.start()
    return lifespan


@pytest.mark.parametrize("setting", ["on", "auto"])
def test_it_starts_keeps_a_state_and_ends(caplog, setting):
    async def main():
        lifespan = await _start(complete, setting)
        assert lifespan.state == {"database": "open"}
        await lifespan.stop(5)

    asyncio.run(main())
    assert not caplog.records


def test_off_does_not_call_the_application():
    async def main():
        lifespan = await _start(None, "off")
        assert lifespan.state == {}
        await lifespan.stop(5)

    asyncio.run(main())


@pytest.mark.parametrize("setting", ["on", "auto"])
def test_an_application_may_return_early(caplog, setting):
    async def main():
        await (await _start(returns, setting)).stop(5)

    asyncio.run(main())
    assert not caplog.records


@pytest.mark.parametrize("setting", ["on", "auto"])
@pytest.mark.parametrize(("app", "details"), [(reports, "no database"), (reports_nothing, "")])
def test_a_start_that_is_reported_as_failed_fails(app, details, setting):
    with pytest.raises(StartupFailed, match="the application's lifespan startup failed") as raised:
        asyncio.run(_start(app, setting))
    assert raised.value.details == details


@pytest.mark.parametrize("app", [raises, exits, answers_another_question])
def test_an_application_that_raises_supports_no_lifespan(caplog, app):
    """With ``on`` its traceback is told, from its own first frame on."""
    caplog.set_level(logging.DEBUG, "fdpass.serve")

    async def main():
        await (await _start(app, "auto")).stop(5)

    asyncio.run(main())
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    with pytest.raises(StartupFailed) as raised:
        asyncio.run(_start(app, "on"))
    assert raised.value.details.startswith("Traceback")
    assert f"in {app.__name__}" in raised.value.details.splitlines()[1]


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (_reports_at_the_end, "the application's lifespan shutdown failed: not saved"),
        (_reports_nothing_at_the_end, "the application's lifespan shutdown failed: it gave no reason"),
        (_raises_at_the_end, "LookupError: not saved"),
        (_hangs_at_the_end, "the application's lifespan shutdown did not end within 0.0 s: it is cut"),
        (_raises_meanwhile, "the application's lifespan has ended early: Traceback"),
        (_answers_twice, "sends 'lifespan.startup.complete', which answers nothing that its lifespan was told"),
    ],
)
def test_what_goes_wrong_after_the_start_is_logged_once(caplog, end, said):
    async def main():
        lifespan = await _start(and_then(end), "auto")
        await asyncio.sleep(0)
        await lifespan.stop(0.01)

    asyncio.run(main())
    (record,) = caplog.records
    assert (record.levelname, said in caplog.text) == ("ERROR", True)


def test_what_the_application_does_after_its_last_answer_is_not_waited_for(caplog):
    async def main():
        await (await _start(and_then(_goes_on), "on")).stop(5)

    asyncio.run(main())
    assert not caplog.records
