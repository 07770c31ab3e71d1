"""Datagrams of sd_notify(3), read as systemd reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdpass._keep.notification import MOST_BYTES, Malformed, Notification, parse


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", Notification()),
        (b"READY=1", Notification(ready=True)),
        (b"READY=1\n", Notification(ready=True)),
        (b"READY=1\0", Notification(ready=True)),
        (b"READY=0\nX_OWN=1\nnonsense", Notification()),
        (b"STATUS=one\nSTATUS=two", Notification(status="one")),
        (b"STATUS=a=b", Notification(status="a=b")),
        (b"STATUS=", Notification(status="")),
        (b"STATUS=\xff", Notification()),
        (b"STATUS=gr\xc3\xbc\xc3\x9fe", Notification(status="grüße")),
        (b"MAINPID=12", Notification(main_pid=12)),
        (b"MAINPID=0", Notification()),
        (b"MAINPID=-1", Notification()),
        (b"MAINPID=12a", Notification()),
        (b"RELOADING=1\nMONOTONIC_USEC=5", Notification(reloading=True, relayed=("MONOTONIC_USEC=5",))),
        (b"WATCHDOG=1\nEXTEND_TIMEOUT_USEC=9", Notification(relayed=("WATCHDOG=1", "EXTEND_TIMEOUT_USEC=9"))),
        (b"WATCHDOG=trigger", Notification(relayed=("WATCHDOG=trigger",))),
        (b"STOPPING=1", Notification(stopping=True)),
        (b"FDSTORE=1", Notification(store=True)),
        (b"FDSTORE=1\nFDNAME=a b", Notification(store=True, name="a b")),
        (b"FDSTORE=1\nFDPOLL=0", Notification(store=True, poll=False)),
        (b"FDSTORE=1\nFDPOLL=1", Notification(store=True)),
        (b"FDSTORE=1\nFDNAME=", Notification(store=True, name="")),
        (b"FDSTOREREMOVE=1\nFDNAME=n", Notification(remove=True, name="n")),
        (b"FDNAME=a:b", Notification(invalid_name=True)),
        (b"FDNAME=a\tb", Notification(invalid_name=True)),
        (b"FDNAME=a\x7fb", Notification(invalid_name=True)),
        (b"FDNAME=\xc3\xbc", Notification(invalid_name=True)),
        (b"FDNAME=" + b"n" * 255, Notification(name="n" * 255)),
        (b"FDNAME=" + b"n" * 256, Notification(invalid_name=True)),
        (b"BARRIER=1", Notification(barrier=True)),
        (b"BARRIER=1\n", Notification(barrier=True)),
        (b"BARRIER=0\nREADY=1", Notification(ready=True)),
    ],
)
def test_a_datagram_is_read_as_systemd_reads_it(data, expected):
    assert parse(data) == expected


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"READY=1\0STATUS=x", "zero byte"),
        (b"\0\0", "zero byte"),
        (b"BARRIER=1\nREADY=1", "only assignment"),
        (b"BARRIER=1\nBARRIER=1", "only assignment"),
        (b"x" * (MOST_BYTES + 1), "longer than 4096"),
    ],
)
def test_what_systemd_ignores_as_a_whole_is_malformed(data, words):
    with pytest.raises(Malformed, match=words):
        parse(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_malformed(data):
    """No name can break LISTEN_FDNAMES, and no relayed line has a line break."""
    try:
        found = parse(data)
    except Malformed:
        return
    assert found.name is None or (found.name.isascii() and ":" not in found.name and "\n" not in found.name)
    assert all("\n" not in line and "\0" not in line for line in found.relayed)
