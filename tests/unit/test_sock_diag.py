"""`_sock_diag`: the kernel's answers, from samples and of this process."""

import errno
import os
import socket
import struct

import pytest

from fdpass import _sock_diag

ENTRY = struct.pack("=BBBBIII", socket.AF_UNIX, socket.SOCK_STREAM, 1, 0, 77, 1, 2)


def attribute(kind, content):
    length = 4 + len(content)
    return struct.pack("=HH", length, kind) + content + bytes(-length % 4)


def message(kind, content):
    length = 16 + len(content)
    return struct.pack("=IHHII", length, kind, 0, 1, 0) + content + bytes(-length % 4)


@pytest.mark.parametrize(
    ("attributes", "name", "peer"),
    [
        (b"", None, None),
        (attribute(0, b"/run/a\0"), b"/run/a\0", None),
        (attribute(0, b"\0abc\n\0d"), b"\0abc\n\0d", None),
        (attribute(2, struct.pack("=I", 78)) + attribute(9, b"?") + attribute(0, b"x\0"), b"x\0", 78),
        (attribute(0, b""), None, None),
    ],
)
def test_an_entry_is_parsed(attributes, name, peer):
    """Attributes come in any order; unknown ones are skipped."""
    assert _sock_diag.parsed(ENTRY + attributes) == (77, socket.SOCK_STREAM, 1, name, peer)


def test_a_datagram_is_split_into_its_messages():
    """Messages are padded to four bytes; nonsense at the end is left out."""
    data = message(20, b"abcde") + message(3, b"") + b"\0" * 20
    assert list(_sock_diag.messages(data)) == [(20, b"abcde"), (3, b"")]


def test_the_sockets_of_this_process_are_found_with_names_and_peers(tmp_path):
    path = str(tmp_path / "s")
    abstract = f"\0fdpass-test-{os.getpid()}\n".encode()
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right, socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as named:
        listener.bind(path)
        listener.listen()
        named.bind(abstract)
        try:
            found = {one.inode: one for one in _sock_diag.unix_sockets()}
        except OSError as error:
            pytest.skip(f"no sock_diag here: {error}")
        inodes = [os.fstat(one.fileno()).st_ino for one in (left, right, listener, named)]
        seen = [found[inode][1:] for inode in inodes]
    assert seen == [
        (socket.SOCK_SEQPACKET, 1, None, inodes[1]),
        (socket.SOCK_SEQPACKET, 1, None, inodes[0]),
        (socket.SOCK_STREAM, 10, path.encode() + b"\0", None),
        (socket.SOCK_STREAM, 7, abstract, None),
    ]


def test_an_error_of_the_kernel_is_raised():
    """ENOENT: the kernel has no sock_diag for Unix sockets."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.send(message(2, struct.pack("=i", -errno.ENOENT) + bytes(16)))
        with pytest.raises(FileNotFoundError):
            list(_sock_diag._replies(ours, several=True))
