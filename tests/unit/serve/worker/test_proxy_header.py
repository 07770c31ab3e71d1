"""The PROXY header: both versions are parsed, however the bytes are cut, and anything else is refused at once."""

import socket
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fdpass.serve.worker.proxy_header import LENGTH_MAX, Header, ProxyError, parse

V2 = b"\r\n\r\n\0\r\nQUIT\n"
INET, INET6, UNIX = 0x11, 0x21, 0x31
LOCAL, PROXY = 0x20, 0x21
IPV4 = bytes([192, 0, 2, 1, 198, 51, 100, 7]) + struct.pack(">HH", 56324, 443)
IPV6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + bytes(15) + b"\1" + struct.pack(">HH", 1, 65535)


def v2(block=b"", command=PROXY, kind=INET):
    return V2 + struct.pack(">BBH", command, kind, len(block)) + block


def field(kind, value):
    return struct.pack(">BH", kind, len(value)) + value


def unix(client, server):
    return client.ljust(108, b"\0") + server.ljust(108, b"\0")


GOOD = {
    "v1 over IPv4": (
        b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n",
        (("192.0.2.1", 56324), False),
    ),
    "v1 over IPv6": (
        b"PROXY TCP6 2001:DB8:0::1 ::ffff:192.0.2.1 0 65535\r\n",
        (("2001:db8::1", 0), False),
    ),
    "v1, longest IPv6": (
        b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n",
        ((":".join(["ffff"] * 8), 65535), False),
    ),
    "v1 unknown, short": (b"PROXY UNKNOWN\r\n", (None, False)),
    "v1 unknown, longest": (b"PROXY UNKNOWN " + b"\xff" * 91 + b"\r\n", (None, False)),
    "v2 over IPv4": (v2(IPV4), (("192.0.2.1", 56324), False)),
    "v2, datagrams": (v2(IPV4, kind=0x12), (("192.0.2.1", 56324), False)),
    "v2 over IPv6": (v2(IPV6, kind=INET6), (("2001:db8::1", 1), False)),
    "v2, Unix": (v2(unix(b"/run/a b", b"\0name"), kind=UNIX), ("/run/a b", False)),
    "v2, Unix, abstract": (v2(unix(b"\0b\0junk", b"/a"), kind=UNIX), ("\0b", False)),
    "v2, Unix, longest": (v2(unix(b"x" * 108, b""), kind=UNIX), ("x" * 108, False)),
    "v2, Unix without a name": (v2(unix(b"", b"x" * 108), kind=UNIX), ("", False)),
    "v2, Unix with leavings": (v2(unix(b"/a\0junk", b"\0b\0junk"), kind=UNIX), ("/a", False)),
    "v2, Unix, not UTF-8": (v2(unix(b"/\xff", b""), kind=UNIX), ("/\udcff", False)),
    "v2 of the proxy's own": (v2(command=LOCAL, kind=0), (None, False)),
    "v2 of the proxy's own, with a block to be skipped": (
        v2(b"\xff" * 9, command=LOCAL, kind=0xFF),
        (None, False),
    ),
    "v2 of an unknown family": (v2(b"\xff" * 9, kind=0x00), (None, False)),
    "v2 of an unknown transport": (v2(IPV4, kind=0x10), (None, False)),
    "v2, longest": (
        v2(IPV4 + field(4, bytes(LENGTH_MAX - 15))),
        (("192.0.2.1", 56324), False),
    ),
    "v2 from TLS": (
        v2(IPV4 + field(1, b"h2") + field(0x20, b"\1\0\0\0\0" + field(0x21, b"TLSv1.3")) + field(4, b"")),
        (("192.0.2.1", 56324), True),
    ),
    "v2 with a TLS field that says no": (
        v2(IPV4 + field(0x20, b"\6\0\0\0\0")),
        (("192.0.2.1", 56324), False),
    ),
    "v2 with an empty TLS field": (
        v2(IPV4 + field(0x20, b"")),
        (("192.0.2.1", 56324), False),
    ),
}

BAD = {
    "HTTP": (b"GET ", "begins with b'GET '"),
    "one wrong byte": (b"G", "begins with"),
    "no space after PROXY": (b"PROXYTCP4", "begins with"),
    "a signature cut by something else": (V2[:5] + b"x", "begins with"),
    "a family of no version": (b"PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n", "b'TCP5'"),
    "more than UNKNOWN": (b"PROXY UNKNOWNS\r\n", "b'UNKNOWNS'"),
    "no family": (b"PROXY \r\n", "b''"),
    "too few words": (b"PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n", "5 words"),
    "too many words": (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n", "7 words"),
    "two spaces": (b"PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n", "7 words"),
    "IPv6 in TCP4": (b"PROXY TCP4 ::1 1.1.1.1 1 1\r\n", "b'::1' where an IPv4"),
    "a server's IPv6 in TCP4": (b"PROXY TCP4 1.1.1.1 ::1 1 1\r\n", "b'::1' where an IPv4"),
    "IPv4 in TCP6": (b"PROXY TCP6 ::1 1.1.1.1 1 1\r\n", "b'1.1.1.1' where an IPv6"),
    "octal": (b"PROXY TCP4 1.1.1.01 1.1.1.1 1 1\r\n", "where an IPv4"),
    "three numbers": (b"PROXY TCP4 1.1.1 1.1.1.1 1 1\r\n", "where an IPv4"),
    "a scope": (b"PROXY TCP6 fe80::1%1 ::1 1 1\r\n", "where an IPv6"),
    "NUL in an address": (b"PROXY TCP4 1.1.1.1\0 1.1.1.1 1 1\r\n", "where an IPv4"),
    "no ASCII": ("PROXY TCP4 1.1.1.\u0661 1.1.1.1 1 1\r\n".encode(), "where an IPv4"),
    "port too high": (b"PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n", "b'65536' where a port"),
    "port with a zero in front": (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 01\r\n", "b'01' where a port"),
    "negative port": (b"PROXY TCP4 1.1.1.1 1.1.1.1 -1 1\r\n", "where a port"),
    "no port": (b"PROXY TCP4 1.1.1.1 1.1.1.1  1\r\n", "where a port"),
    "LF alone": (b"PROXY UNKNOWN\n", "alone"),
    "CR alone": (b"PROXY UNKNOWN\rx", "alone"),
    "a line that can only be too long": (b"PROXY UNKNOWN " + b"x" * 92, "longer than 107"),
    "a line too long by its LF": (b"PROXY UNKNOWN " + b"x" * 92 + b"\r", "longer than 107"),
    "a line too long": (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "alone"),
    "version 1 in the binary format": (v2(IPV4, command=0x11), "version 1 with command 1"),
    "version 3": (v2(IPV4, command=0x31), "version 3 with command 1"),
    "an unknown command": (v2(IPV4, command=0x22), "version 2 with command 2"),
    "an unknown address family": (v2(IPV4, kind=0x41), "0x41"),
    "an unknown transport": (v2(IPV4, kind=0x13), "0x13"),
    "too long": (V2 + struct.pack(">BBH", LOCAL, 0, LENGTH_MAX + 1), "announces 4097 bytes"),
    "IPv4 cut": (v2(IPV4[:-1]), "has 11 bytes, where its addresses take 12"),
    "IPv6 cut": (v2(IPV6[:-1], kind=INET6), "has 35 bytes, where its addresses take 36"),
    "Unix cut": (v2(bytes(215), kind=UNIX), "has 215 bytes, where its addresses take 216"),
    "a field without its length": (v2(IPV4 + b"\4\0"), "ends within"),
    "a field longer than the header": (v2(IPV4 + b"\4\0\2x"), "ends within"),
    "a broken field after the TLS one": (v2(IPV4 + field(0x20, b"\1\0\0\0\0") + b"\4"), "ends within"),
}

ports = st.integers(0, 65535)
fields = st.tuples(st.integers(0, 255), st.binary(max_size=20))
hosts = {
    4: st.ip_addresses(v=4).map(lambda ip: ip.packed),
    6: st.ip_addresses(v=6).map(lambda ip: ip.packed),
}


@st.composite
def headers(draw):
    """A valid header of either version, with the client that it names."""
    form = draw(st.sampled_from([4, 6]))
    family = socket.AF_INET if form == 4 else socket.AF_INET6
    client, server = draw(hosts[form]), draw(hosts[form])
    left, right = draw(ports), draw(ports)
    names = [socket.inet_ntop(family, host) for host in (client, server)]
    if draw(st.booleans()):
        return f"PROXY TCP{form} {names[0]} {names[1]} {left} {right}\r\n".encode(), (names[0], left)
    tail = b"".join(field(kind, value) for kind, value in draw(st.lists(fields, max_size=3)))
    block = client + server + struct.pack(">HH", left, right) + tail
    return v2(block, kind=INET if form == 4 else INET6), (names[0], left)


@pytest.mark.parametrize(("data", "expected"), GOOD.values(), ids=GOOD)
def test_a_header_gives_the_client_and_whether_it_spoke_tls(data, expected):
    assert parse(data) == Header(len(data), *expected)


@pytest.mark.parametrize(("data", "expected"), GOOD.values(), ids=GOOD)
def test_bytes_behind_a_header_do_not_count_as_its_own(data, expected):
    assert parse(data + b"\nGET / HTTP/1.1\r\n\r\n") == Header(len(data), *expected)


@pytest.mark.parametrize(("data", "reason"), BAD.values(), ids=BAD)
def test_anything_but_a_header_is_refused_with_the_reason(data, reason):
    with pytest.raises(ProxyError, match=reason):
        parse(data)


@pytest.mark.parametrize("data", [data for data, _ in GOOD.values()], ids=GOOD)
def test_a_part_of_a_header_gives_a_length_beyond_the_part_and_within_the_header(data):
    """So a reader that reads up to this length makes progress, and takes no byte behind the header."""
    for length in range(len(data)):
        assert length < parse(data[:length]) <= len(data)


@pytest.mark.parametrize("data", [data for data, _ in GOOD.values()], ids=GOOD)
def test_a_reader_that_reads_up_to_the_given_lengths_ends_with_the_header(data):
    stream, got = data + b"GET /", 0
    while isinstance(answer := parse(stream[:got]), int):
        got = answer
    assert got == answer.length == len(data)


def test_the_first_16_bytes_of_a_version_2_header_give_its_length():
    data = v2(IPV4 + field(4, bytes(500)))
    assert parse(data[:1]) == 16
    assert parse(data[:16]) == len(data)


def test_a_broken_start_is_refused_before_the_rest_has_come():
    """A length beyond the bound, an unknown family, a length below that of the addresses."""
    for start in (
        V2 + struct.pack(">BBH", PROXY, INET, 65535),
        V2 + struct.pack(">BBH", PROXY, 0xF1, 12),
        V2 + struct.pack(">BBH", PROXY, INET6, 12),
    ):
        with pytest.raises(ProxyError):
            parse(start)


@given(made=headers(), cuts=st.lists(st.integers(0, 120)), rest=st.binary(max_size=30))
def test_however_a_header_is_cut_it_is_parsed_alike(made, cuts, rest):
    data, client = made
    stream = data + rest
    for cut in [min(cut, len(stream)) for cut in [*cuts, len(stream)]]:
        answer = parse(stream[:cut])
        if cut < len(data):
            assert cut < answer <= len(data)
        else:
            assert (answer.length, answer.client) == (len(data), client)


starts = st.sampled_from(
    [b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ", V2, *(V2 + bytes([c]) for c in (0x20, 0x21))]
)


@given(start=starts, rest=st.binary(max_size=300))
@example(start=b"", rest=b"")
@example(start=b"PROXY ", rest=b"\r\n")
def test_garbage_is_refused_or_gives_a_length_in_bounds(start, rest):
    data = start + rest
    try:
        answer = parse(data)
    except ProxyError:
        return
    if isinstance(answer, int):
        assert answer > len(data)
    else:
        assert 0 < answer.length <= len(data)


@given(start=starts, rest=st.binary(max_size=300), length=st.integers(0, 300))
def test_bytes_that_are_refused_are_refused_with_more_bytes_behind_them(start, rest, length):
    data = start + rest
    try:
        parse(data[:length])
    except ProxyError:
        with pytest.raises(ProxyError):
            parse(data)
