"""`path_of`: the path in a handshake, which decides whether its WebSocket can be resumed."""

import pytest

from fdpass.serve.worker.live.websockets import path_of


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/ws", "/ws"),
        (b"/ws?room=1", "/ws"),
        (b"/w%73/a%20b", "/ws/a b"),
        (b"http://example.org/ws", "http://example.org/ws"),  # which no prefix names
        (b"/\xff", "/\xff"),
    ],
)
def test_the_path_is_that_of_the_applications_scope(target, path):
    assert path_of(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % target) == path


@pytest.mark.parametrize("head", [b"", b"GET", b"\0" * 20])
def test_a_page_of_nonsense_has_a_path_that_no_prefix_names(head):
    assert not path_of(head).startswith("/")
