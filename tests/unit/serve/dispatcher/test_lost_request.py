"""What the logs say of the request that a worker had when it died."""

import contextlib
import json
import re

import pytest

from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.lost_request import RESPONSE_502, begun, named, scope_of
from fdpass.serve.dispatcher.recovery import Action, Facts, decide
from fdpass.serve.shared import slots
from fdpass.serve.shared.slots import BUFFER_SIZE, CALLED_BEFORE, CLIENT, WORDS, Flag

PEER = ("192.0.2.1", 1234)
REQUEST = b"POST /pay?x=1 HTTP/1.1\r\nHost: x\r\n\r\n"


def slot(**words):
    """The words of a slot, by their names."""
    found = [0] * WORDS
    for name, value in words.items():
        found[getattr(slots, name.upper())] = value
    return found


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (REQUEST, "POST /pay, client 192.0.2.1:1234"),
        (b"\r\n" + REQUEST, "POST /pay, client 192.0.2.1:1234"),
        (b"GET /a", "GET /a, client 192.0.2.1:1234"),
        (b"GET /\xe9\x1b[1m HTTP/1.1\r\n", r"GET /\xe9\x1b[1m, client 192.0.2.1:1234"),
        (b"GE", "client 192.0.2.1:1234"),
        (b"", "client 192.0.2.1:1234"),
    ],
)
def test_the_log_names_the_request_as_far_as_it_is_known_and_its_client(data, said):
    assert named(scope_of(slot(), PEER, data)) == said


def test_the_client_is_the_one_that_a_proxy_named():
    words = slot(client=1 + (4321 << 16))
    words[CLIENT + 2] = int.from_bytes(bytes([0, 0, 255, 255, 198, 51, 100, 7]), "little")
    assert named(scope_of(words, PEER, REQUEST)) == "POST /pay, client 198.51.100.7:4321"


@pytest.mark.parametrize("peer", [None, "", b""])
def test_a_client_without_an_address_is_one_of_a_unix_socket(peer):
    assert named(scope_of(slot(), peer, REQUEST)) == "POST /pay, client of a Unix socket"


def test_a_raw_connection_has_no_request():
    assert named(scope_of(slot(flags=int(Flag.STREAM)), PEER, REQUEST)) == "client 192.0.2.1:1234"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ({"buffer": 1, "base": 1000, "origin": 1000}, REQUEST),
        ({"buffer": 1, "base": 1005, "origin": 1000}, REQUEST[5:]),
        ({"buffer": 1, "base": 1000, "origin": 1001}, b""),
        ({"buffer": 0, "base": 1000, "origin": 1000}, b""),
        ({"buffer": 9, "base": 1000, "origin": 1000}, b""),
        ({"buffer": -1, "base": 1000, "origin": 1000}, b""),
        ({"buffer": 1, "base": 2**62, "origin": 1000}, b""),
    ],
)
def test_the_request_is_read_from_the_buffer_if_its_start_is_there(words, found):
    assert begun(slot(**words), REQUEST.ljust(BUFFER_SIZE, b"\0")).rstrip(b"\0") == found
    assert begun(slot(**words), None) == b""


@pytest.mark.parametrize("as_json", [False, True])
def test_the_dispatcher_writes_the_line_of_a_502_with_the_dead_workers_pid(tmp_path, as_json):
    path = tmp_path / "access"
    with contextlib.closing(AccessLog(str(path))) as log:
        log.line(scope_of(slot(), PEER, REQUEST), 502, 47, pid=567, json=as_json)
    (line,) = path.read_text().splitlines()
    if as_json:
        found = json.loads(line)
        assert (found["pid"], found["method"], found["path"], found["query"]) == (567, "POST", "/pay", "x=1")
        assert (found["status"], found["bytes"], found["ms"]) == (502, 47, None)
    else:
        assert re.fullmatch(r'192.0.2.1 - - \[.*\] "POST /pay\?x=1 HTTP/1.1" 502 47 pid=567', line)


def test_without_an_access_log_nothing_is_written():
    AccessLog("").line(scope_of(slot(), PEER, REQUEST), 502, 47, pid=567, json=False)


SAFE = int(Flag.CALLED | Flag.SAFE)
HELD = {"buffer": 1, "base": 1000, "origin": 1000, "read": 1100}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({**HELD, "flags": int(Flag.CALLED)}, "which must not be repeated"),
        ({**HELD, "flags": SAFE, "attempt": CALLED_BEFORE + 1}, "which had been repeated already"),
        ({**HELD, "attempt": 3}, "which 4 workers have died with"),
        (
            {**HELD, "origin": 1050, "flags": SAFE},
            "which is not in a buffer: it was too long, or no buffer was free",
        ),
    ],
)
def test_the_log_says_why_a_request_was_not_repeated(words, reason):
    decision = decide(slot(**words), Facts(True, 1100, 0), "safe")
    assert (decision.action, decision.reason) == (Action.ANSWER, reason)


def test_a_502_says_its_length():
    head, _, body = RESPONSE_502.partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head
