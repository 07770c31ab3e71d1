"""`Config`: each setting's type, bounds and choices, and errors that name the setting and the remedy."""

import dataclasses
import pathlib
import pydoc
import re

import pytest

from fdpass.errors import ConfigError
from fdpass.serve.shared.config import NAMES, SETTINGS, Config, check_name
from fdpass.serve.shared.ledger import MOST_WORKERS
from fdpass.serve.shared.setting import flag, size

CHOICES = {name: setting.choices for name, setting in SETTINGS.items() if setting.choices}
BOUNDS = {
    "workers": (1, MOST_WORKERS // 4),
    "spare": (0, MOST_WORKERS // 4),
    "backlog": (1, 2**31 - 1),
    "max_connections": (0, 2**24),
    "graceful_timeout": (0, 1_000_000),
    "start_timeout": (0.1, 1_000_000),
    "hang_timeout": (0, 1_000_000),
    "request_timeout": (0, 1_000_000),
    "keep_alive": (0, 1_000_000),
    "header_timeout": (0, 1_000_000),
    "max_header_size": (2**13, 2**24),
    "max_body_size": (0, 2**62),
    "max_requests": (0, 2**62),
    "max_rss": (0, 2**62),
    "threads": (1, 1000),
    "limit_concurrency": (0, 2**62),
    "max_requests_jitter": (0, 2**31),
    "ws_max_size": (1, 2**40),
    "ws_ping_interval": (0, 1_000_000),
    "ws_ping_timeout": (0, 1_000_000),
}
SIZES = ("max_header_size", "max_body_size", "max_rss", "ws_max_size")
WHOLE = (
    *("workers", "spare", "backlog", "max_connections", "max_requests", "threads"),
    *("limit_concurrency", "max_requests_jitter"),
    *SIZES,
)
SECONDS = (
    *("graceful_timeout", "start_timeout", "hang_timeout", "request_timeout"),
    *("keep_alive", "header_timeout", "ws_ping_interval", "ws_ping_timeout"),
)
SWITCHES = ("factory", "proxy_protocol", "log_json", "underscore_headers", "no_date_header", "reload")
PATHS = ("tls_cert", "tls_key", "tls_ca", "access_log", "log_config", "pidfile", "control", "app_dir", "env_file")
LISTS = ("bind", "resume", "header", "reload_dir", "reload_include", "reload_exclude")
TEXTS = (
    "app",
    "dashboard",
    "user",
    "group",
    "root_path",
    "access_log_format",
    "forwarded_allow_ips",
    *PATHS,
    *CHOICES,
)


def test_each_setting_is_in_a_list_of_these_tests():
    assert {*WHOLE, *SECONDS, *SWITCHES, *TEXTS, *LISTS} == set(NAMES)
    assert set(BOUNDS) == {*WHOLE, *SECONDS} == {name for name, setting in SETTINGS.items() if setting.bounds}


@pytest.mark.parametrize("name", NAMES)
def test_each_setting_has_a_sentence_and_help_shows_it(name):
    sentence = SETTINGS[name].help
    assert re.fullmatch(r"[A-Z][^\n]+\.", sentence)
    assert sentence.count("`") % 2 == 0
    assert f"{name}: {sentence}" in " ".join(pydoc.getdoc(Config).split())


@pytest.mark.parametrize("name", NAMES)
def test_what_a_setting_takes_fits_the_type_of_its_field(name):
    kinds = {
        "str": {"text", "path", "account"},
        "int": {"whole", "size"},
        "float": {"seconds"},
        "bool": {"switch"},
        "tuple[str, ...]": {"addresses", "prefixes", "headers", "texts"},
    }
    assert SETTINGS[name].kind in kinds[Config.__dataclass_fields__[name].type]


def test_the_defaults_are_valid_and_there_are_two_workers_at_least():
    config = Config()
    assert config.workers >= 2
    assert config == Config.of({})


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().workers = 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, object(), {}, b"x", [1]], ids=["None", "object", "dict", "bytes", "list"])
def test_a_value_of_a_wrong_type_is_refused_with_the_name_of_the_setting(name, value):
    with pytest.raises(ConfigError, match=f"^{flag(name)} takes"):
        Config(**{name: value})


@pytest.mark.parametrize(
    ("names", "value", "words"),
    [
        (WHOLE, 2.0, "a whole number"),
        (WHOLE, True, "a whole number"),
        (SECONDS, "5", "a number of seconds"),
        (SECONDS, True, "a number of seconds"),
        (SECONDS, float("nan"), "a finite number"),
        (SECONDS, float("inf"), "a finite number"),
        (SWITCHES, 1, "true or false"),
        (SWITCHES, "yes", "true or false"),
        (set(TEXTS) - {"user", "group"}, 5, "text"),
        (("user", "group"), True, "text"),
        (("user", "group"), 1.5, "text"),
        (set(TEXTS) - set(PATHS), pathlib.Path("x"), "text"),
    ],
)
def test_each_kind_of_setting_refuses_other_types_and_says_what_it_takes(names, value, words):
    for name in names:
        with pytest.raises(ConfigError, match=f"^{flag(name)} takes {words}, not "):
            Config(**{name: value})


HUGE = int("f" * 5000, 16)  # Python refuses to write it in digits


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value", [HUGE, -HUGE, 10**400, [HUGE], {"a": HUGE}], ids=["+", "-", "float", "list", "dict"]
)
def test_a_number_that_python_cannot_write_or_convert_is_refused_with_the_name_of_the_setting(name, value):
    with pytest.raises(ConfigError, match=f"^{flag(name)}( takes|: this number is too large$)"):
        Config(**{name: value})


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_text_with_a_null_character_is_refused_with_the_name_of_the_setting(name):
    with pytest.raises(ConfigError, match=f"^{flag(name)} .*null character$"):
        Config(**{name: "a\0b"})


@pytest.mark.parametrize("name", ["bind", "header", "resume", "reload_dir", "reload_include"])
def test_one_of_several_texts_with_a_null_character_is_refused(name):
    with pytest.raises(ConfigError, match=f"^{flag(name)} .*null character$"):
        Config(**{name: ["/a", "/a\0b"]})


@pytest.mark.parametrize(("name", "least", "most"), [(name, *bounds) for name, bounds in BOUNDS.items()])
def test_a_number_outside_its_bounds_is_refused_with_the_bounds(name, least, most):
    for value in (least, most):
        assert getattr(Config(**{name: value}), name) == value
    for value in (least - 1, most + 1):
        with pytest.raises(ConfigError, match=f"^{flag(name)} {value}: must be from {least:,} to {most:,}$"):
            Config(**{name: value})


def test_a_number_of_seconds_may_be_whole():
    assert Config(keep_alive=5).keep_alive == 5


@pytest.mark.parametrize("name", CHOICES)
def test_a_value_that_is_not_a_choice_is_refused_with_the_choices(name):
    for value in CHOICES[name]:
        assert getattr(Config(**{name: value}), name) == value
        assert getattr(Config(**{name: value.upper()}), name) == value
    for value in ("", "nonsense"):
        with pytest.raises(ConfigError) as caught:
            Config(**{name: value})
        assert str(caught.value) == f"{flag(name)} {value!r}: must be one of {', '.join(CHOICES[name])}"


@pytest.mark.parametrize("name", PATHS)
def test_a_path_may_be_a_path_object(name, tmp_path):
    more = {"tls_cert": "cert"} if name in {"tls_key", "tls_ca"} else {}
    assert getattr(Config(**{name: tmp_path, **more}), name) == str(tmp_path)


@pytest.mark.parametrize(("value", "expected"), [(0, "0"), (1000, "1000"), ("www", "www")])
def test_a_user_or_group_may_be_a_number(value, expected):
    assert Config(user=value).user == Config(group=value).group == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("127.0.0.1:80", ("127.0.0.1:80",)),
        (["a:1", "b:2"], ("a:1", "b:2")),
        (("unix:/x",), ("unix:/x",)),
    ],
)
def test_addresses_may_be_one_or_several(value, expected):
    assert Config(bind=value).bind == expected


@pytest.mark.parametrize("value", [[], (), 5, ["a:1", 2], None])
def test_no_address_is_refused(value):
    with pytest.raises(ConfigError, match="--bind takes one or more addresses"):
        Config(bind=value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("/ws", ("/ws",)), (["/ws", "/events/"], ("/ws", "/events/")), (("/",), ("/",)), ([], ()), ((), ())],
)
def test_paths_to_resume_may_be_none_one_or_several(value, expected):
    assert Config(resume=value).resume == expected


@pytest.mark.parametrize("path", ["", "ws", "https://example.org/ws"])
def test_a_path_to_resume_begins_with_a_slash(path):
    with pytest.raises(ConfigError, match=f"^--resume {path!r}: a path begins with a slash, such as /ws$"):
        Config(resume=path)


@pytest.mark.parametrize("path", ["/ws/*", "/ws?room=1"])
def test_a_path_to_resume_has_no_asterisk_and_no_query(path):
    with pytest.raises(ConfigError, match=r"give a path without \* or \?"):
        Config(resume=["/ok", path])


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"custody": "off"}, "--resume needs custody"),
        ({"accept": "worker"}, "--resume needs custody"),
        ({"tls_cert": "cert.pem"}, "--resume cannot be combined with --tls-cert"),
    ],
)
def test_resume_without_what_it_needs_is_refused(other, why):
    with pytest.raises(ConfigError, match=f"^{why}"):
        Config(resume="/ws", **other)
    Config(**other)


@pytest.mark.parametrize("app", ["a:b", "a.b:c", "a.b:c.d", "_a1.b2:c"])
def test_an_application_is_named_by_module_and_name(app):
    assert Config(app=app).app == app


@pytest.mark.parametrize("app", ["", "a", "a:", ":b", "a/b.py:c", "a..b:c", ".a:b", "a b:c", "1a:b"])
def test_text_that_names_no_application_is_refused(app):
    with pytest.raises(ConfigError, match=r"give MODULE:NAME, such as shop\.main:app"):
        Config(app=app)


@pytest.mark.parametrize("name", ["tls_key", "tls_ca"])
def test_a_key_or_authority_without_a_certificate_is_refused(name):
    with pytest.raises(ConfigError, match="need --tls-cert"):
        Config(**{name: "file"})


def test_the_folder_of_the_application_must_exist(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(ConfigError, match=f"--app-dir '{path}' is not a folder"):
            Config(app_dir=str(path))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("wokers", ": did you mean 'workers'?"),
        ("max_conections", ": did you mean 'max_connections'?"),
        ("host", ": did you mean 'bind'?"),
        ("port", ": did you mean 'bind'?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest_name(name, hint):
    expected = f"there is no setting {name!r}{hint}"
    with pytest.raises(ConfigError) as caught:
        Config.of({"workers": 2, name: 1})
    assert str(caught.value) == expected
    with pytest.raises(ConfigError) as caught:
        check_name(name)
    assert str(caught.value) == expected


# Sizes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("123", 123),
        ("1k", 1024),
        ("1K", 1024),
        ("1 KB", 1024),
        ("2KiB", 2048),
        ("500M", 500 * 2**20),
        (" 3g ", 3 * 2**30),
        ("7B", 7),
        ("999999999999G", 999_999_999_999 * 2**30),
    ],
)
def test_text_is_converted_to_bytes(text, expected):
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5G", "1T", "1 2", "1e3", "1MM", "٣", "1" * 13])
def test_text_that_is_not_a_size_is_refused(text):
    with pytest.raises(ConfigError, match="is not a size: give a number of bytes"):
        size(text)


def test_a_size_may_be_text_or_a_number():
    assert Config(max_rss="1M").max_rss == Config(max_rss=2**20).max_rss == 2**20
    with pytest.raises(ConfigError, match="is not a size"):
        Config(max_rss="much")


def test_an_application_that_is_an_object_is_refused_with_the_form_that_is_right():
    with pytest.raises(ConfigError, match="by its name, MODULE:NAME: each worker imports it"):
        Config(app=print)
