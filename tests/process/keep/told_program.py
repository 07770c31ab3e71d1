"""A program for `fdpass keep` that executes the lines of Python that the test writes to its standard input."""

import os
import signal
import socket

import fdpass

given = fdpass.inherited()
by_name = {each.name: each.fd for each in given}


def say(*words):
    """Print one line: the test reads it."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def notify(text, fds=(), give=False):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        data = text if isinstance(text, bytes) else text.encode()
        fdpass.send_fds(sock, data, fds, give=give, address=os.environ["NOTIFY_SOCKET"])


def barrier():
    """Wait until all notifications so far are handled."""
    reading, writing = os.pipe()
    notify("BARRIER=1", [writing], give=True)
    os.read(reading, 1)
    os.close(reading)


def store(name, fd, more=""):
    """Store a descriptor, and wait until it is stored."""
    notify(f"FDSTORE=1\nFDNAME={name}{more}", [fd])
    barrier()


def file_of(text):
    """A memfd with this text."""
    fd = os.memfd_create("test")
    os.write(fd, text.encode())
    return fd


def line():
    """Read one line of standard input, and no byte beyond it: the next process continues there."""
    read = b""
    while not read.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            signal.pause()
        read += byte
    return read.decode()


say("start", os.getpid(), *(f"{each.name}:{each.fd.kind}" for each in given))
while True:
    exec(line())
