"""For testing what passes descriptors: leak checks, pairs, faults on demand, and a conformance suite.

The pytest fixture ``no_leaks`` is in `fdpass.testing.plugin`; nothing else here needs pytest.
"""

from fdpass.testing import conformance
from fdpass.testing.conformance import check_async_channel, check_channel
from fdpass.testing.faults import EVERY, FaultySocket, after, before, call_fails, fails, full_table, short
from fdpass.testing.leaks import children, open_fds, same_file
from fdpass.testing.pairs import BlockingChannel, channel_pair, faulty_pair

__all__ = [
    "EVERY",
    "BlockingChannel",
    "FaultySocket",
    "after",
    "before",
    "call_fails",
    "channel_pair",
    "check_async_channel",
    "check_channel",
    "children",
    "conformance",
    "fails",
    "faulty_pair",
    "full_table",
    "open_fds",
    "same_file",
    "short",
]
