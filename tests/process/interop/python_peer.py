"""A peer that uses Python's socket.send_fds and socket.recv_fds, over the socket on descriptor 0.

``send PATH...`` opens each path and sends all descriptors in one message; ``recv N`` receives N descriptors and
prints the content of each.
"""

import os
import socket
import sys

if __name__ == "__main__":
    sock = socket.socket(fileno=0)
    verb, *words = sys.argv[1:]
    if verb == "send":
        socket.send_fds(sock, [b"from ", b"python"], [os.open(path, os.O_RDONLY) for path in words])
    else:
        data, fds, flags, _ = socket.recv_fds(sock, 1024, int(words[0]))
        texts = [os.pread(fd, 1024, 0).decode() for fd in fds]
        print(data.decode(), flags, *texts, sep="|")
