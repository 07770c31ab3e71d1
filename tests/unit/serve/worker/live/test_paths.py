"""Which paths ``--resume`` names."""

import pytest

from fdpass.serve.worker.live.paths import is_resumable, path_of, with_slashes


@pytest.mark.parametrize(
    ("path", "prefixes", "expected"),
    [
        ("/events", ("/events",), True),
        ("/events/", ("/events",), True),
        ("/events/a/b", ("/events",), True),
        ("/eventsource", ("/events",), False),
        ("/event", ("/events",), False),
        ("/", ("/events",), False),
        ("/events", ("/events/",), True),
        ("/events/a", ("/events/",), True),
        ("/eventsource", ("/events/",), False),
        ("/any", ("/",), True),
        ("/", ("/",), True),
        ("/b", ("/a", "/b"), True),
        ("/ab/c", ("/a", "/ab"), True),
        ("/any", (), False),
    ],
)
def test_a_prefix_names_its_path_and_all_below(path, prefixes, expected):
    assert is_resumable(path, with_slashes(prefixes)) is expected


@pytest.mark.parametrize(
    ("head", "path"),
    [
        (b"GET /a%20b?c=/d HTTP/1.1\r\n", "/a b"),
        (b"GET / HTTP/1.1\r\n", "/"),
        (b"GET /\xff HTTP/1.1\r\n", "/\xff"),
        (b"nonsense", ""),
        (b"", ""),
    ],
)
def test_the_path_of_a_head(head, path):
    assert path_of(head) == path
