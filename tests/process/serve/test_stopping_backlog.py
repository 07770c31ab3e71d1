"""A graceful stop answers the clients that connected before it, whatever state dispatcher and workers are in."""

import contextlib
import signal

import pytest

WAYS = pytest.mark.parametrize(
    "flags",
    [(), ("--custody", "off"), ("--loop", "asyncio"), ("--accept", "worker")],
    ids=["custody", "no custody", "asyncio", "accept worker"],
)


def assert_answered(server, asked):
    workers = {one.answered() for one in asked}
    assert server.wait_end() == 0
    return workers


@contextlib.contextmanager
def stuck(server, tools):
    """No worker moves, and the dispatcher has seen it."""
    with contextlib.ExitStack() as held:
        for pid in server.workers():
            held.enter_context(tools.stopped(pid))
        server.wait_status(lambda status: all(each["lag_ms"] > 500 for each in status["workers"]))
        yield


@WAYS
def test_clients_in_the_backlog_at_a_stop_are_answered(serve, client, tools, flags):
    server = serve("app:app", *flags)
    assert server.address  # who is stopped cannot say it
    with server.paused():
        asked = [client(server).send(connection="close") for _ in range(20)]
        server.kill(signal.SIGTERM)
    assert_answered(server, asked)


@WAYS
def test_clients_in_the_backlog_are_answered_by_workers_that_read_handoff_and_end_together(
    serve, client, tools, flags
):
    server = serve("app:app", *flags)
    workers = server.workers()
    assert server.address  # who is stopped cannot say it
    with contextlib.ExitStack() as held:
        with server.paused():
            asked = [client(server).send(connection="close") for _ in range(20)]
            server.kill(signal.SIGTERM)
            for pid in workers:
                held.enter_context(tools.stopped(pid))
        server.wait_log("stopping:")
        assert server.status()["workers"]  # by now the dispatcher has done what it can
    assert assert_answered(server, asked) <= set(workers)


@WAYS
def test_clients_in_the_backlog_are_answered_once_stopped_workers_run_again(serve, client, tools, flags):
    server = serve("app:app", *flags)
    workers = server.workers()
    with contextlib.ExitStack() as held:
        for pid in workers:
            held.enter_context(tools.stopped(pid))
        stuck = [client(server).send(connection="close") for _ in range(400)]  # more than there is credit for
        server.wait_status(lambda status: all(each["lag_ms"] > 500 for each in status["workers"]))
        server.kill(signal.SIGTERM)
        server.wait_log("stopping:")
        assert server.status()["connections"]["accepted"] < 400
    assert assert_answered(server, stuck) <= set(workers)


def test_stopped_workers_do_not_delay_the_end_beyond_graceful_timeout(serve, client, tools):
    server = serve("app:app", "--graceful-timeout", "0.3")
    with stuck(server, tools):
        asked = client(server).send()
        server.kill(signal.SIGTERM)
        assert server.wait_end() == 0
    assert asked.failed()


def test_a_second_sigterm_does_not_wait_for_stopped_workers(serve, client, tools):
    server = serve()
    with stuck(server, tools):
        asked = client(server).send()
        server.kill(signal.SIGTERM)
        server.wait_log("stopping:")
        server.kill(signal.SIGTERM)
        assert server.wait_end() == 0
        assert "stopping at once" in server.log()
    assert asked.failed()
