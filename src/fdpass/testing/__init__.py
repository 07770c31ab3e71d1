"""Tools to test code that passes descriptors: leak checks, connected pairs, injected faults, a conformance suite.

The pytest fixture ``no_leaks`` is in `fdpass.testing.plugin`; no other module here needs pytest.
"""

from fdpass.testing import conformance
from fdpass.testing._faults import EVERY, FaultySocket, after, before, call_fails, fails, full_table, short
from fdpass.testing._leaks import children, open_fds, same_file
from fdpass.testing._pairs import BlockingChannel, channel_pair, faulty_pair
from fdpass.testing.conformance import check_async_channel, check_channel

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


def __dir__() -> list[str]:
    return __all__
