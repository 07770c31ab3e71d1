"""The settings of a dashboard, from the texts of its options."""

import pytest

from fdpass._dashboard.settings import AgentCheck, Settings
from fdpass.errors import ConfigError


def names(*controls):
    return [(server.name, server.path) for server in Settings.of("127.0.0.1:9100", controls).servers]


@pytest.mark.parametrize(
    ("controls", "expected"),
    [
        (["/run/shop.sock"], [("shop", "/run/shop.sock")]),
        (["/srv/control"], [("control", "/srv/control")]),
        (["web=/srv/control", "/srv/chat.sock"], [("web", "/srv/control"), ("chat", "/srv/chat.sock")]),
        (["/a/control", "/b/control"], [("/a/control", "/a/control"), ("/b/control", "/b/control")]),
        (["@abstract"], [("@abstract", "@abstract")]),
        (["/odd=name/shop.sock"], [("shop", "/odd=name/shop.sock")]),
    ],
)
def test_a_server_is_named_by_its_option_or_its_socket(controls, expected):
    assert names(*controls) == expected


def test_the_default_is_the_default_server(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert names() == [("fdpass", f"{tmp_path}/fdpass.sock")]


def test_an_agent_check_names_its_server_if_there_are_several():
    settings = Settings.of("127.0.0.1:9100", ["/run/shop.sock"], ["127.0.0.1:9101"])
    assert settings.agent_checks == (AgentCheck("shop", "127.0.0.1", 9101),)
    settings = Settings.of("127.0.0.1:9100", ["/run/a.sock", "/run/b.sock"], ["b=127.0.0.1:9102"])
    assert settings.agent_checks == (AgentCheck("b", "127.0.0.1", 9102),)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("here",), "--bind 'here': write HOST:PORT"),
        (("127.0.0.1:1", ["a=/x", "a=/y"]), "two servers have the name 'a'"),
        (("127.0.0.1:1", ["/x", "/y"], ["127.0.0.1:2"]), "with several servers, write NAME=HOST:PORT"),
        (("127.0.0.1:1", ["/x"], ["y=127.0.0.1:2"]), "no server has the name 'y'"),
        (("127.0.0.1:1", ["/x"], ["9101"]), r"--agent-check '9101': write \[NAME=\]HOST:PORT"),
    ],
)
def test_malformed_options_are_refused(arguments, words):
    with pytest.raises(ConfigError, match=words):
        Settings.of(*arguments)


def test_a_token_that_can_be_guessed_is_refused():
    with pytest.raises(ConfigError, match="at least 16 characters"):
        Settings.of("127.0.0.1:1", ["/x"], token="secret")
    assert Settings.of("127.0.0.1:1", ["/x"], token="0123456789abcdef").token


@pytest.mark.parametrize("end", ["\udcff", "\u00e9", " b", "\n"])
def test_a_token_that_a_header_cannot_have_is_refused(end):
    with pytest.raises(ConfigError, match=r"^--token: a token consists of printable ASCII characters"):
        Settings.of("127.0.0.1:1", ["/x"], token="0123456789abcdef" + end)
    assert Settings.of("127.0.0.1:1", ["/x"], token="0123456789+/&%=~").token


@pytest.mark.parametrize("paths", [["/run/a\udcff.sock"], ["/run/a\udcff", "/tmp/a\udcff"]])
def test_a_path_that_is_not_utf_8_gives_a_name_that_is(paths):
    for server, path in zip(Settings.of("127.0.0.1:1", paths).servers, paths, strict=True):
        assert server.path == path
        assert "a\\udcff" in server.name


@pytest.mark.parametrize(
    ("bind", "local"),
    [("127.0.0.1:1", True), ("[::1]:1", True), ("localhost:1", True), (":1", False), ("10.0.0.1:1", False)],
)
def test_a_loopback_address_is_known(bind, local):
    assert Settings.of(bind, ["/x"]).only_local is local
