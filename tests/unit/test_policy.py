"""`Policy`: which descriptors a channel admits; the others are closed before user code sees them."""

import fcntl
import os
import threading

import pytest

from fdpass import Channel, Fd, PeerRefused, Policy, PolicyError, share


@pytest.fixture
def descriptors(tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    r, w = os.pipe()
    found = {
        "file r": Fd.open(tmp_path / "f"),
        "file w": Fd.open(tmp_path / "f", "a"),
        "pipe r": Fd(r),
        "pipe w": Fd(w),
        "memfd": share(b"x"),
        "path": Fd(os.open(tmp_path, os.O_PATH)),
    }
    yield found
    for fd in found.values():
        fd.close()


@pytest.mark.parametrize(
    ("policy", "admitted"),
    [
        (Policy(), {"file r", "file w", "pipe r", "pipe w", "memfd", "path"}),
        (Policy(kinds={"file"}), {"file r", "file w"}),
        (Policy(kinds={"pipe", "memfd"}), {"pipe r", "pipe w", "memfd"}),
        (Policy(kinds=()), set()),
        (Policy(access="r"), {"file r", "pipe r"}),
        (Policy(access="w"), {"file w", "pipe w"}),
        (Policy(access="rw"), {"memfd"}),
        (Policy(seals=fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK), {"memfd"}),
        (Policy(count=0), set()),
        (Policy(count=2), set()),
        (Policy(kinds={"file"}, access="r", count=1), {"file r"}),
    ],
)
def test_each_policy_admits_the_descriptors_that_it_describes(descriptors, policy, admitted):
    """A refusal has the message's data and leaks nothing, and the channel goes on."""
    one, other = Channel.pair(policy=policy)
    with one, other:
        found = set()
        for name, fd in descriptors.items():
            one.send(name.encode(), [fd])
            try:
                with other.recv() as message:
                    assert len(message) == 1
                    found.add(message.data.decode())
            except PolicyError as error:
                assert error.data == name.encode()
                assert isinstance(error, PermissionError)
    assert found == admitted


def test_an_acknowledged_sender_keeps_the_descriptors_that_the_policy_refuses(descriptors):
    """The error at the sender is PeerRefused, and the sender still owns what it wanted to give."""
    one, other = Channel.pair(policy=Policy(kinds={"dir"}), acknowledged=True)
    heard = []

    def receive():
        try:
            other.recv()
        except PolicyError as error:
            heard.append(str(error))

    with one, other:
        thread = threading.Thread(target=receive)
        thread.start()
        with pytest.raises(PeerRefused):
            one.send(b"x", [descriptors["memfd"]], give=True)
        thread.join()
    assert heard == ["a descriptor of kind memfd came, but the policy admits only: dir"]
    assert not descriptors["memfd"].closed


@pytest.mark.parametrize("bad", [{"access": "x"}, {"access": "wr"}])
def test_a_misspelt_policy_is_refused(bad):
    """It would admit all descriptors, or none."""
    with pytest.raises(ValueError, match="access"):
        Policy(**bad)
    with pytest.raises(TypeError, match="write"):
        Policy(kinds="file")
    with pytest.raises(ValueError, match="no kind is called 'files', 'sockets': the kinds are block"):
        Policy(kinds={"sockets", "file", "files"})


def test_with_max_fds_0_the_kernel_or_the_channel_refuses_descriptors(descriptors):
    """The kernel refuses them at the sender (SO_PASSRIGHTS, Linux 6.16); with an older kernel recv closes them."""
    one, other = Channel.pair(max_fds=0)
    with one, other:
        try:
            one.send(b"x", [descriptors["memfd"]])
        except PeerRefused:
            pass  # Linux 6.16
        else:
            with pytest.raises(OSError, match="max_fds"):
                other.recv()
        one.send(b"plain")
        assert other.recv().data == b"plain"


def test_a_descriptor_with_access_mode_3_of_open_is_refused(tmp_path):
    """Such a descriptor permits neither reading nor writing (open(2)); a hostile peer can send it."""
    (tmp_path / "f").write_bytes(b"x")
    one, other = Channel.pair(policy=Policy(access="r"))
    with one, other, Fd(os.open(tmp_path / "f", 3)) as fd:
        one.send(b"x", [fd])
        with pytest.raises(PolicyError, match="access none"):
            other.recv()


def test_descriptors_are_closed_if_the_policy_raises(descriptors, monkeypatch):
    """A policy of the user's own class, for instance; the leak check of the suite sees what stays open."""

    def failing(_policy, _fds):
        raise TypeError

    monkeypatch.setattr(Policy, "objection", failing)
    one, other = Channel.pair(policy=Policy())
    with one, other:
        one.send(b"x", [descriptors["memfd"], descriptors["pipe r"]])
        with pytest.raises(TypeError):
            other.recv()
