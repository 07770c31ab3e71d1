"""No header that a client sends through trusted proxies can hide or replace the address that they saw."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdpass.serve.shared.proxies import Proxies
from fdpass.serve.worker.http.forwarded import Forwarding

PROXIES = "127.0.0.1,unix,10.0.0.0/8,2001:db8:1::/48"
FORWARDINGS = {mode: Forwarding(Proxies(PROXIES), mode) for mode in ("auto", "x-forwarded", "forwarded")}
ALL = {mode: Forwarding(Proxies("*"), mode) for mode in FORWARDINGS}
NAMES = [b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded", b"host"]
PIECES = [b"for=", b"192.0.2.66", b"10.0.0.1", b",", b'"', b"\\", b";", b"[", b"]", b":", b"for=192.0.2.66", b" "]

values = st.one_of(
    st.binary(max_size=60),
    st.lists(st.sampled_from([*PIECES, b"proto=https", b"host=evil", b"unknown"]), max_size=12).map(b"".join),
)
headers = st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=6)
outside = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(
    lambda address: not Proxies(PROXIES).look_up(str(address))[1]
)
inside = st.sampled_from(["127.0.0.1", "10.0.0.7", "10.255.0.1", "2001:db8:1::9"])
seen = st.tuples(outside, st.lists(inside, max_size=3), st.booleans())


@given(headers)
@pytest.mark.parametrize("mode", FORWARDINGS)
def test_no_value_raises_or_gives_what_is_no_address(mode, given_headers):
    for forwarding in (FORWARDINGS[mode], ALL[mode]):
        found = forwarding.read(given_headers)
        if found is not None:
            assert found.client is None or (ipaddress.ip_address(found.client[0]), 0 <= found.client[1] < 65536)
            assert found.scheme in {"", "http", "https"}
            assert not set(found.host) & set(b'\r\n\0 /@,"')


def added(given_headers, name, entries, *, in_one_line):
    """The headers behind proxies that add these entries to those of the client."""
    entry = ", ".join(entries).encode()
    old = [value for found, value in given_headers if found == name]
    if in_one_line and old:
        rest = [pair for pair in given_headers if pair[0] != name]
        return [*rest, (name, b", ".join([*old, entry]))]
    return [*given_headers, (name, entry)]


def unmapped(address):
    return str(getattr(address, "ipv4_mapped", None) or address)


@given(headers, seen)
@pytest.mark.parametrize("mode", ["auto", "x-forwarded"])
def test_the_client_is_the_last_address_that_no_proxy_has(mode, given_headers, chain):
    client, proxies, in_one_line = chain
    entries = [str(client), *proxies]
    sent = added(given_headers, b"x-forwarded-for", entries, in_one_line=in_one_line)
    assert FORWARDINGS[mode].read(sent).client == (unmapped(client), 0)


def node(address):
    text = str(address)
    return f'for="[{text}]"' if ":" in text else f"for={text}"


@given(headers, seen)
def test_the_client_of_forwarded_is_the_last_address_that_no_proxy_has(given_headers, chain):
    client, proxies, in_one_line = chain
    entries = [f"{node(address)};proto=https;host=shop" for address in (client, *proxies)]
    sent = added(given_headers, b"forwarded", entries, in_one_line=in_one_line)
    found = FORWARDINGS["forwarded"].read(sent)
    assert found.client == (unmapped(client), 0)
    assert (found.scheme, found.host) == ("https", b"shop")
