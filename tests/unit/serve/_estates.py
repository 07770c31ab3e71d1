"""Connections as a server without a keeper has them: in an estate and a column of memory that nobody shares."""

from fdpass.serve.dispatcher.connections import Connections
from fdpass.serve.keeper.estate import Estate


def connections_of(most):
    """Connections without a ledger, for at most so many."""
    return Connections(Estate.private(most), memoryview(bytearray(8 * most)).cast("q"))
