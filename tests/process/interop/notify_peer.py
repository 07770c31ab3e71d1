"""A service that stores descriptors in its service manager, with sd_pid_notify_with_fds(3) of libsystemd.

``notify_peer.py PATH...`` opens each path, and sends all descriptors with FDSTORE=1 to NOTIFY_SOCKET. Exit code
77: libsystemd is not installed.
"""

import ctypes
import os
import sys

if __name__ == "__main__":
    try:
        libsystemd = ctypes.CDLL("libsystemd.so.0")
    except OSError:
        sys.exit(77)
    fds = [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]
    state = b"FDSTORE=1\nFDNAME=kept"
    sent = libsystemd.sd_pid_notify_with_fds(0, 0, state, (ctypes.c_int * len(fds))(*fds), len(fds))
    sys.exit(0 if sent > 0 else f"sd_pid_notify_with_fds: {sent}")
