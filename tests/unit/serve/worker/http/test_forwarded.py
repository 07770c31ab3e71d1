"""What a request says about its client is believed if a trusted proxy has said it; the walk is from the right."""

import pytest

from fdpass.errors import ConfigError
from fdpass.serve.shared.proxies import DEFAULT, Proxies
from fdpass.serve.worker.http.forwarded import Forwarded, Forwarding

PROXIES = "127.0.0.1,::1,unix,10.0.0.0/8,2001:db8:1::/48"
NOTHING = Forwarded(None, "", b"")


def read(mode="auto", proxies=PROXIES, **headers):
    """What headers say: names with underscores, values or lists of values."""
    pairs = [
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, values in headers.items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    return Forwarding(Proxies(proxies), mode).read([(b"host", b"x"), *pairs])


def client(mode="auto", proxies=PROXIES, **headers):
    found = read(mode, proxies, **headers)
    return found and found.client


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("192.0.2.1", ("192.0.2.1", 0)),
        ("192.0.2.1:55", ("192.0.2.1", 55)),
        ("2001:db8::1", ("2001:db8::1", 0)),
        ("[2001:db8::1]", ("2001:db8::1", 0)),
        ("[2001:DB8::1]:55", ("2001:db8::1", 55)),
        ("::ffff:192.0.2.1", ("192.0.2.1", 0)),
        ("192.0.2.1:x", ("192.0.2.1", 0)),
        ("192.0.2.1:70000", ("192.0.2.1", 0)),
        (" \t192.0.2.1 ", ("192.0.2.1", 0)),
        ("192.0.2.9, 192.0.2.1", ("192.0.2.1", 0)),
        ("192.0.2.1, 10.1.2.3", ("192.0.2.1", 0)),
        ("192.0.2.9, 192.0.2.1, 10.1.2.3, 127.0.0.1, 2001:db8:1::5", ("192.0.2.1", 0)),
        (["192.0.2.9", "192.0.2.1"], ("192.0.2.1", 0)),
        (["192.0.2.1", "10.0.0.1"], ("192.0.2.1", 0)),
        ("192.0.2.1,, ,", ("192.0.2.1", 0)),
        ("10.0.0.2, 10.0.0.1", ("10.0.0.2", 0)),  # all are proxies: the first one is the client
        ("unknown", None),
        ("192.0.2.1, unknown", None),
        ("192.0.2.1, unknown, 10.0.0.1", ("10.0.0.1", 0)),  # which wrote "unknown"
        ("192.0.2.1, <script>, 10.0.0.1", ("10.0.0.1", 0)),
        ("fe80::1%<b>", None),
        ("[192.0.2.1", None),
        ("[::1]x", None),
        ("127.1", None),
        ("0127.0.0.1", None),
        ("", None),
        (",", None),
    ],
)
def test_the_client_of_x_forwarded_for(value, found):
    assert client(x_forwarded_for=value) == found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("for=192.0.2.1", ("192.0.2.1", 0)),
        ('For="192.0.2.1:55"', ("192.0.2.1", 55)),
        ('for="[2001:db8::1]:55";proto=https', ("2001:db8::1", 55)),
        ("for=192.0.2.1;by=10.0.0.1, for=10.0.0.1", ("192.0.2.1", 0)),
        (["for=192.0.2.9", "for=192.0.2.1"], ("192.0.2.1", 0)),
        ("for=192.0.2.9,for=192.0.2.1", ("192.0.2.1", 0)),
        ('for="192.0.2.\\1"', ("192.0.2.1", 0)),
        ('for=192.0.2.1;by="a, for=192.0.2.9"', ("192.0.2.1", 0)),
        ('for="x, for=192.0.2.1', ("192.0.2.1", 0)),  # a client has left a quote open
        ('for="x\\, for=192.0.2.1', ("192.0.2.1", 0)),
        ("for=192.0.2.1;;proto=http", ("192.0.2.1", 0)),
        ("for=unknown", None),
        ("for=_hidden, for=10.0.0.1", ("10.0.0.1", 0)),
        ("for=192.0.2.9;for=192.0.2.1", None),
        ("by=192.0.2.9", None),
        ("192.0.2.9", None),
        ('for="192.0.2.9', None),
        ("for=[::1]", None),  # without quotes it is malformed
        ("", None),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "forwarded"])
def test_the_client_of_forwarded(mode, value, found):
    assert client(mode, forwarded=value) == found


@pytest.mark.parametrize(
    ("for_", "proto", "scheme"),
    [
        ("192.0.2.1", "https", "https"),
        ("192.0.2.1", "HTTPS", "https"),
        ("192.0.2.1", "wss", "https"),
        ("192.0.2.1", "gopher", ""),
        ("192.0.2.1", "", ""),
        ("192.0.2.1, 10.0.0.1", "https, http", "https"),  # the proxy at the client's side speaks TLS
        ("192.0.2.9, 192.0.2.1", "https, http", "http"),  # the client has written the first one
        ("192.0.2.1", "https, http", "http"),  # the last one is the peer's
        ("192.0.2.1, 10.0.0.1", "https", "https"),
        ("unknown", "https", "https"),
    ],
)
def test_the_scheme_of_x_forwarded_proto(for_, proto, scheme):
    assert read(x_forwarded_for=for_, x_forwarded_proto=proto).scheme == scheme


def test_a_scheme_alone_changes_no_client():
    assert read(x_forwarded_proto="https") == Forwarded(None, "https", b"")


def test_the_scheme_and_the_host_of_forwarded_are_those_of_the_clients_element():
    text = (
        'for=192.0.2.9;proto=http;host=evil, for=192.0.2.1;proto=https;host="shop.example:80", for=10.0.0.1;host=a'
    )
    assert read("forwarded", forwarded=text) == Forwarded(("192.0.2.1", 0), "https", b"shop.example:80")
    assert read("auto", forwarded=text) == Forwarded(("192.0.2.1", 0), "https", b"")


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("shop.example", b"shop.example"),
        ("shop.example:80", b"shop.example:80"),
        ("[::1]:80", b"[::1]:80"),
        ("evil, shop.example", b"shop.example"),
        ("a b", b""),
        ("a/b", b""),
        ("user@a", b""),
        ("\xe4", b""),
        ("x" * 256, b""),
    ],
)
def test_the_host_of_x_forwarded_host_counts_only_where_it_is_asked_for(value, host):
    """Most proxies set no such header and let the client's pass, which could then choose the host."""
    assert read("x-forwarded", x_forwarded_for="192.0.2.1", x_forwarded_host=value).host == host
    assert read("auto", x_forwarded_for="192.0.2.1", x_forwarded_host=value).host == b""
    assert read("forwarded", x_forwarded_for="192.0.2.1", x_forwarded_host=value) is None


def test_a_header_that_the_proxies_do_not_set_is_the_clients_and_is_ignored():
    both = {"x_forwarded_for": "192.0.2.1", "forwarded": "for=192.0.2.2"}
    assert client("auto", **both) == ("192.0.2.1", 0)
    assert client("x-forwarded", **both) == ("192.0.2.1", 0)
    assert client("forwarded", **both) == ("192.0.2.2", 0)
    assert read("x-forwarded", forwarded="for=192.0.2.2") is None
    assert read("auto", forwarded="for=192.0.2.2", x_forwarded_proto="https") == Forwarded(None, "https", b"")


def test_if_every_peer_is_trusted_the_first_entry_is_the_client():
    assert client(proxies="*", x_forwarded_for="192.0.2.9, 192.0.2.1") == ("192.0.2.9", 0)
    assert client(proxies="*", forwarded="for=192.0.2.9, for=192.0.2.1") == ("192.0.2.9", 0)


@pytest.mark.parametrize("header", ["x_forwarded_for", "forwarded", "x_forwarded_proto"])
def test_a_header_of_any_length_is_read_in_bounded_time(header):
    text = {"x_forwarded_for": "10.0.0.1, ", "forwarded": 'for="10.0.0.1,', "x_forwarded_proto": "https,"}[header]
    assert client(**{header: text * 6000}) in {None, ("10.0.0.1", 0)}


def test_the_scope_gets_what_is_known_and_no_list_is_changed():
    headers = [(b"host", b"old"), (b"a", b"b")]
    scope = {"type": "http", "client": ("10.0.0.1", 5), "scheme": "http", "headers": headers}
    NOTHING.apply(scope)
    assert scope == {"type": "http", "client": ("10.0.0.1", 5), "scheme": "http", "headers": headers}
    Forwarded(("192.0.2.1", 0), "https", b"new").apply(scope)
    assert scope["client"] == ("192.0.2.1", 0)
    assert scope["scheme"] == "https"
    assert scope["headers"] == [(b"host", b"new"), (b"a", b"b")]
    assert headers == [(b"host", b"old"), (b"a", b"b")]
    websocket = {"type": "websocket", "client": None, "scheme": "ws", "headers": headers}
    Forwarded(None, "https", b"").apply(websocket)
    assert websocket["scheme"] == "wss"


@pytest.mark.parametrize(
    ("proxies", "peer", "is_unix", "trusted"),
    [
        (DEFAULT, ("127.0.0.1", 1), False, True),
        (DEFAULT, ("::1", 1, 0, 0), False, True),
        (DEFAULT, ("127.0.0.2", 1), False, False),
        (DEFAULT, "", True, True),
        (DEFAULT, None, True, False),  # it has gone
        (DEFAULT, None, False, False),
        (DEFAULT, ("192.0.2.1", 1), True, False),  # a PROXY header names it
        ("127.0.0.1", "", True, False),
        ("*", "", True, True),
        ("*", ("192.0.2.1", 1), False, True),
        ("192.0.2.0/24", ("192.0.2.1", 1), False, True),
        ("192.0.2.0/24", ("::ffff:192.0.2.1", 1), False, True),
        (" 192.0.2.1 , unix", ("192.0.2.1", 1), False, True),
    ],
)
def test_which_peers_are_trusted(proxies, peer, is_unix, trusted):
    assert Forwarding(Proxies(proxies), "auto").trusts(peer, is_unix=is_unix) is trusted


@pytest.mark.parametrize("text", ["", " ", ","])
def test_an_empty_list_trusts_nobody(text):
    assert not Proxies(text)


@pytest.mark.parametrize("text", ["proxy", "10.0.0.1/8", "/run/nginx.sock", "10.0.0.1 10.0.0.2", "1.2.3.4:80"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ConfigError, match="--forwarded-allow-ips"):
        Proxies(text)
