"""Limits of the machine: open files, and how many connections fit into them."""

import resource
import subprocess
import sys

import pytest

from fdpass.errors import ConfigError
from fdpass.serve.dispatcher import limits
from fdpass.serve.shared.config import Config


@pytest.fixture
def file_limit():
    """The limits on open files; they are restored after the test."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_limit_on_open_files_is_raised_to_what_is_allowed(file_limit):
    _, hard = file_limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    capacity = limits.raise_descriptor_limit()
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert soft == (hard if hard != resource.RLIM_INFINITY else 2**20)
    assert 0 < capacity < soft


def with_limit(number):
    """How many connections a process may have that is allowed so many open files; in one of its own."""
    code = (
        "import resource, fdpass.serve.dispatcher.limits as limits; "
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({number}, {number})); print(limits.raise_descriptor_limit())"
    )
    return int(subprocess.check_output([sys.executable, "-c", code]))


@pytest.mark.parametrize(("limit", "expected"), [(64, 32), (512, 256), (1024, 768)])
def test_a_process_keeps_some_descriptors_for_itself(limit, expected):
    """256, or half of a small table."""
    assert with_limit(limit) == expected


def test_without_max_connections_as_many_as_fit_are_allowed():
    assert limits.most_connections(Config(workers=3, custody="off"), 1000) == 3000
    assert limits.most_connections(Config(workers=3), 1000) == 1000


def test_a_max_connections_that_fits_is_used():
    assert limits.most_connections(Config(workers=3, max_connections=3000, custody="off"), 1000) == 3000
    assert limits.most_connections(Config(workers=3, max_connections=7), 1000) == 7


def test_a_max_connections_that_cannot_fit_is_refused_with_the_numbers():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    with pytest.raises(ConfigError) as caught:
        limits.most_connections(Config(workers=3, max_connections=3001, custody="off"), 1000)
    assert str(caught.value) == (
        f"--max-connections 3,001 cannot fit: a process may have {limit:,} open files (ulimit -Hn) and needs "
        f"{limit - 1000:,} for itself, so 3 workers can have 3,000 connections; raise the limit, or have more "
        "workers"
    )


def test_in_custody_the_dispatcher_needs_a_descriptor_for_each():
    with pytest.raises(ConfigError, match=r"--max-connections 1,001 cannot fit: .*, or use --custody off"):
        limits.most_connections(Config(workers=3, max_connections=1001), 1000)
