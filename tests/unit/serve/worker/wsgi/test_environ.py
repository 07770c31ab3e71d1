"""The environ of a request: PEP 3333, RFC 3875, and what must not look like something else."""

import sys

import pytest

from fdpass.serve.worker.wsgi.environ import Environs


def scope(**changes):
    return {
        "http_version": "1.1",
        "server": ("192.0.2.1", 8000),
        "client": ("192.0.2.9", 50000),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [],
        "extensions": {},
    } | changes


@pytest.fixture(autouse=True)
def _no_prefix(monkeypatch):
    monkeypatch.delenv("SCRIPT_NAME", raising=False)


def environ(*, underscores=False, threads=10, **changes):
    return Environs(underscores=underscores, threads=threads).make(scope(**changes), None)


def test_the_environ_has_all_that_the_pep_demands():
    found = environ(query_string=b"a=%20&b")
    assert found.pop("wsgi.file_wrapper")
    assert found.pop("wsgi.errors") is sys.stderr
    assert found == {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "a=%20&b",
        "SERVER_NAME": "192.0.2.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "fdpass",
        "REMOTE_ADDR": "192.0.2.9",
        "REMOTE_PORT": "50000",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": None,
        "wsgi.input_terminated": True,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


def test_one_thread_is_not_multithreaded():
    assert environ(threads=1)["wsgi.multithread"] is False


@pytest.mark.parametrize(("scheme", "port"), [("http", "80"), ("https", "443")])
def test_over_a_unix_socket_there_is_a_name_and_a_port_all_the_same(scheme, port):
    found = environ(scheme=scheme, server=("/run/shop.sock", None), client=None)
    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == ("localhost", port)
    assert found["REMOTE_ADDR"] == ""
    assert "REMOTE_PORT" not in found
    assert environ(server=None)["SERVER_NAME"] == "localhost"  # the client has gone


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/caf%C3%A9", "/caf\xc3\xa9"),  # UTF-8: each character is a byte
        (b"/caf%E9", "/caf\xe9"),  # Latin-1 is not lost, although it is no UTF-8
        (b"/a%2Fb%25", "/a/b%"),
        (b"/%zz", "/%zz"),
        (b"/plain", "/plain"),
        (b"*", ""),  # of OPTIONS; PEP 3333 wants a path that begins with a slash, or none
    ],
)
def test_the_path_is_decoded_to_bytes(raw, path):
    assert environ(raw_path=raw, path=raw.decode())["PATH_INFO"] == path


@pytest.mark.parametrize(
    ("root", "path", "parts"),
    [
        ("/shop", "/shop/cart", ("/shop", "/cart")),
        ("/shop", "/shop", ("/shop", "")),
        ("/shop", "/shopping", ("/shop", "/shopping")),
        ("/shop", "/cart", ("/shop", "/cart")),  # the proxy has removed it
        ("/caf\xe9", "/caf%C3%A9/x", ("/caf\xc3\xa9", "/x")),
        ("", "/cart", ("", "/cart")),
    ],
)
@pytest.mark.parametrize("by", ["scope", "environment"])
def test_the_script_name_is_the_root_path_or_that_of_the_environment(monkeypatch, root, path, parts, by):
    if by == "environment":
        monkeypatch.setenv("SCRIPT_NAME", root + "/")
    found = environ(root_path=root if by == "scope" else "", raw_path=path.encode(), path=path)
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == parts


def headers(*pairs, **options):
    found = environ(headers=list(pairs), **options)
    return {key: value for key, value in found.items() if key.startswith(("HTTP_", "CONTENT_"))}


def test_headers_have_the_names_of_cgi():
    found = headers(
        (b"host", b"x"), (b"content-type", b"a/b"), (b"content-length", b"3"), (b"x-thing", b"caf\xe9")
    )
    assert found == {
        "HTTP_HOST": "x",
        "CONTENT_TYPE": "a/b",
        "CONTENT_LENGTH": "3",
        "HTTP_X_THING": "caf\xe9",
    }


def test_headers_of_the_same_name_are_joined():
    found = headers((b"x-a", b"1"), (b"cookie", b"a=1"), (b"x-a", b"2, 3"), (b"cookie", b"b=2"))
    assert found == {"HTTP_X_A": "1,2, 3", "HTTP_COOKIE": "a=1; b=2"}


USER = ((b"x-auth-user", b"bob"), (b"x-auth_user", b"root"), (b"x_auth_user", b"eve"))


def test_a_header_with_an_underscore_is_dropped():
    """Else it passes for the one that a proxy has set."""
    assert headers(*USER) == {"HTTP_X_AUTH_USER": "bob"}
    assert headers(*USER[1:]) == {}


def test_a_setting_lets_such_headers_pass():
    assert headers(*USER, underscores=True) == {"HTTP_X_AUTH_USER": "bob,root,eve"}


@pytest.mark.parametrize("underscores", [False, True])
def test_no_header_imitates_those_that_cgi_names_without_http(underscores):
    pairs = (b"content_length", b"9"), (b"content_type", b"a/b"), (b"content-length", b"3")
    assert headers(*pairs, underscores=underscores) == {"CONTENT_LENGTH": "3"}


def test_many_names_do_not_fill_the_memory():
    environs = Environs(underscores=False, threads=1)
    for number in range(5000):
        found = environs.make(scope(headers=[(b"x-%d" % number, b"1"), (b"content-type", b"a/b")]), None)
        assert (found[f"HTTP_X_{number}"], found["CONTENT_TYPE"]) == ("1", "a/b")
    assert len(environs._keys) < 1100


def test_the_application_learns_how_many_workers_have_died_with_its_request():
    assert environ(extensions={"fdpass": {"attempt": 1, "slot": 3}})["fdpass.attempt"] == 1
