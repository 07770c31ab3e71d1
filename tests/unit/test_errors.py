"""Every exception of fdpass: its text, its errno, and its way through pickle and copy."""

import copy
import errno
import multiprocessing
import os
import pickle

import pytest

import fdpass
from fdpass import Fd, FdpassError, FdsLost, PeerClosed, PolicyError, Truncated
from fdpass import errors as public

ALL = [
    kind
    for kind in vars(public).values()
    if isinstance(kind, type) and issubclass(kind, FdpassError) and kind not in {FdsLost, PolicyError, Truncated}
]
MADE = [
    FdsLost("surplus", b"data", lost=2, address="/far", truncated=True),
    FdsLost("table full", b"", again=True),
    PolicyError("no pipes", b"data"),
    Truncated("too long", b"data", (), "/far"),
]


def seen(error):
    """All that a user can read of an exception."""
    return type(error), str(error), repr(error), error.args, getattr(error, "errno", None), vars(error)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_text_and_errno_are_those_that_it_was_made_of(kind):
    """The order of the bases decides which constructor runs: that of OSError keeps errno."""
    assert str(kind("what happened")) == "what happened"
    if issubclass(kind, OSError):
        error = kind(errno.EPIPE, "cannot send: Broken pipe")
        assert str(error) == "[Errno 32] cannot send: Broken pipe"
        assert error.errno == errno.EPIPE


def test_the_end_of_the_peer_has_the_errno_of_the_call():
    """docs/errors.md: an error that comes from a system call has its errno."""
    left, right = fdpass.Channel.pair("stream")
    right.close()
    with left, pytest.raises(PeerClosed, match=r"\[Errno 32\] cannot send: Broken pipe") as caught:
        left.send(b"x")
    assert caught.value.errno == errno.EPIPE


@pytest.mark.parametrize("error", [*MADE, *(kind("text") for kind in ALL)], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_a_copy_says_the_same(error, way):
    """A process pool sends the exception of a job to the parent as a pickle."""
    error.add_note("in the third job")
    assert seen(way(error)) == seen(error)


def fail(number):
    """A job of a process pool."""
    raise MADE[number]


def test_a_process_pool_raises_what_its_job_raised():
    """An exception that cannot be unpickled ends the pool's thread for results, and the pool waits for ever."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        jobs = [pool.apply_async(fail, (number,)) for number in range(len(MADE))]
        raised = []
        for job in jobs:
            with pytest.raises(FdpassError) as caught:
                job.get(timeout=30)
            raised.append(str(caught.value))
        pool.close()
        pool.join()
    assert raised == list(map(str, MADE))


def test_an_error_that_carries_descriptors_is_not_pickled():
    """A pickle cannot carry them; the error still owns them."""
    with Fd(os.dup(0)) as fd:
        with pytest.raises(TypeError, match="multiprocessing"):
            pickle.dumps(FdsLost("table full", b"", [fd]))
        assert not fd.closed
