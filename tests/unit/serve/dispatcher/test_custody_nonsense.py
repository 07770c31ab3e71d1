"""A worker can store anything in a slot: impossible values end that connection, and not the dispatcher."""

import pytest

from fdpass.serve.dispatcher.recovery import Action
from fdpass.serve.shared.slots import BUFFER, FLAGS, READ, Flag

from .._custody_case import Case


@pytest.mark.parametrize("number", [3, 10**6, 2**60, -1, -(10**6)])
@pytest.mark.parametrize("flags", [Flag.CALLED, Flag.STREAM])
def test_a_buffer_number_that_does_not_exist_ends_the_connection(number, flags):
    case = Case("ipv4")
    try:
        case.client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        case.slot[READ] = len(case.worker.recv(100))
        case.slot[FLAGS], case.slot[BUFFER] = flags, number
        action, read = case.die()
        assert (action in {Action.ANSWER, Action.RESET}, read) == (True, b"")
    finally:
        case.close()
