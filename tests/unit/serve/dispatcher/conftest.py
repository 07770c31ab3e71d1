"""Fixtures: fake workers; acceptors and pools that have them; connections in custody."""

import contextlib

import pytest

from fdpass.serve.dispatcher.pool import process

from .._custody_case import FAMILIES, Case
from ._accepting_cases import ByDispatcherCase
from ._fake_workers import FakeWorkers
from ._pool_case import PoolCase


@pytest.fixture
def fakes(monkeypatch):
    """`FakeWorkers`; no process is started."""
    with contextlib.closing(FakeWorkers()) as fakes:
        monkeypatch.setattr(process, "start", fakes.start)
        yield fakes


@pytest.fixture
def new_accepting(fakes):
    """``new_accepting(most=, capacity=, binds=)``: a `ByDispatcherCase`, closed at the end of the test."""
    with contextlib.ExitStack() as held:
        yield lambda **options: held.enter_context(contextlib.closing(ByDispatcherCase(fakes, **options)))


@pytest.fixture
def accepting(new_accepting):
    """A `ByDispatcherCase`."""
    return new_accepting()


@pytest.fixture
def new_pool(fakes):
    """``new_pool(workers=2, ...)``: a `PoolCase` with these settings, closed at the end of the test."""
    with contextlib.ExitStack() as held:
        yield lambda **settings: held.enter_context(contextlib.closing(PoolCase(fakes, **settings)))


@pytest.fixture(params=FAMILIES)
def case(request):
    """A connection in custody, of each family."""
    with contextlib.closing(Case(request.param)) as case:
        yield case


@pytest.fixture(params=["ipv4", "ipv6"])
def tcp(request):
    """A connection in custody, of each family for which the kernel keeps counters."""
    with contextlib.closing(Case(request.param)) as case:
        yield case
