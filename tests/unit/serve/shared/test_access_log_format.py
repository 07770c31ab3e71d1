"""The format of the access log: gunicorn's atoms, which no client can use to forge a line."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdpass import Fd
from fdpass.errors import ConfigError
from fdpass.serve.shared.access_log import AccessLog
from fdpass.serve.shared.access_log_format import compiled

SCOPE = {
    "type": "http",
    "http_version": "1.1",
    "method": "GET",
    "path": "/caf\u00e9",
    "raw_path": b"/caf%C3%A9",
    "query_string": b"a=1",
    "client": ("192.0.2.1", 50000),
    "headers": [
        (b"user-agent", b'curl "8"'),
        (b"referer", b"http://a/ b"),
        (b"authorization", b"Basic YW5uOnNlY3JldA=="),
        (b"x-two", b"1"),
        (b"x-two", b"2"),
    ],
}


def written(form, scope=SCOPE, status=200, size=12, seconds=1.5, *, headers=()):
    """What an access log of this format writes."""
    with Fd(os.memfd_create("log")) as file:
        AccessLog(file, json=False, pid=567, form=form).line(scope, status, size, seconds, headers)
        return os.pread(file.fileno(), 10_000, 0).decode("ascii")


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("%(h)s %(l)s %(u)s", "192.0.2.1 - ann"),
        ('"%(r)s" %(s)s %(b)s %(B)s', '"GET /caf%C3%A9?a=1 HTTP/1.1" 200 12 12'),
        ("%(m)s|%(U)s|%(q)s|%(H)s", "GET|/caf%C3%A9|a=1|HTTP/1.1"),
        ('"%(f)s" "%(a)s"', '"http://a/ b" "curl \\x228\\x22"'),
        ("%(T)s %(M)s %(D)s %(L)s %(p)s", "1 1500 1500000 1.500000 <567>"),
        ("%({X-Two}i)s %({none}i)s %({SERVER}o)s", "1, 2 - s"),
        ("%({FDPASS_TEST}e)s 100%% %(s)s", "set 100% 200"),
        ("fixed", "fixed"),
    ],
)
def test_an_atom_is_replaced_by_a_fact(form, line, monkeypatch):
    monkeypatch.setenv("FDPASS_TEST", "set")
    assert written(form, headers=[(b"Server", b"s")]) == line + "\n"


def test_the_time_is_that_of_the_common_log_format():
    assert re.fullmatch(r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\]\n", written("%(t)s"))


def test_what_is_not_known_is_a_dash():
    scope = {"path": "/", "type": "websocket"}
    assert written("%(h)s %(u)s %(a)s %(f)s %(b)s %(L)s %(m)s", scope, 101, 0, None) == "- - - - - - GET\n"


@pytest.mark.parametrize("form", ["%(x)s", "%h", "100%", "%(h)d", "%({x}z)s", "a\nb", "%(h"])
def test_a_wrong_format_is_refused(form):
    with pytest.raises(ConfigError, match="--access-log-format"):
        compiled(form)


def test_broken_credentials_are_a_dash():
    assert written("%(u)s", SCOPE | {"headers": [(b"authorization", b"Basic !")]}) == "-\n"


@given(value=st.binary(max_size=6000), path=st.binary(max_size=3000))
def test_no_request_can_forge_a_line_or_make_one_too_long(value, path):
    scope = SCOPE | {"headers": [(b"user-agent", value), (b"authorization", b"Basic " + value)], "raw_path": path}
    line = written('"%(a)s" %(u)s %(U)s %(s)s', scope)
    assert len(line) <= 4096
    assert line.endswith(" 200\n")
    assert line.count("\n") == 1
    assert line.count('"') == 2
    assert line.isascii()
