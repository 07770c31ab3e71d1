"""`open_descriptors` finds what is open, and what is not named."""

import os
import resource

from fdpass.serve.keeper.table import open_descriptors
from fdpass.testing import full_table


def test_it_finds_the_descriptors_that_are_open_and_no_others():
    before = open_descriptors()
    ends = os.pipe()
    high = os.dup2(ends[0], 3000, inheritable=False)  # beyond one poll(2)
    assert open_descriptors() == before | {*ends, high}
    assert open_descriptors(but=before | {high}) == set(ends)
    for fd in (*ends, high):
        os.close(fd)
    assert open_descriptors() == before


def test_it_polls_no_more_descriptors_at_once_than_the_limit_allows():
    high = os.dup2(0, 700, inheritable=False)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, limits[1]))  # below what the table has room for
    try:
        assert high in open_descriptors()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        os.close(high)


def test_it_needs_no_descriptor():
    before = open_descriptors()
    with full_table():
        assert open_descriptors() == before
