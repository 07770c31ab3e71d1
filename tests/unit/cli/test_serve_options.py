"""The options of ``fdpass serve``: made from the fields of `Config`, and their values reach a `Config`."""

import os
import re

import click
import pytest

from fdpass._cli.habits import _HINTS
from fdpass._cli.serve import _config, serve
from fdpass.serve.shared.config import NAMES, SETTINGS, Config
from fdpass.serve.shared.setting import flag

PARAMETERS = {parameter.name: parameter for parameter in serve.params}
EXAMPLES = {  # the text of a value, and the value; a setting with choices gets its last choice
    "text": ("shop.main:app", "shop.main:app"),
    "path": (os.curdir, os.curdir),
    "account": ("www-data", "www-data"),
    "whole": ("3", 3),
    "seconds": ("2.5", 2.5),
    "size": ("9K", 9216),
    "switch": ("1", True),
    "addresses": ("unix:s", ("unix:s",)),
    "prefixes": ("/ws", ("/ws",)),
}


def example(name):
    choices = SETTINGS[name].choices
    return (choices[-1], choices[-1]) if choices else EXAMPLES[SETTINGS[name].kind]


def arguments(name):
    """The arguments that give a setting its example value."""
    text, _ = example(name)
    if name == "app":
        return [text]
    return [flag(name)] if SETTINGS[name].kind == "switch" else [flag(name), text]


def made(given, env=None):
    """The `Config` that the command makes from these arguments."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        context = serve.make_context("serve", list(given))
    return _config({name: value for name, value in context.params.items() if name != "check"})


def needed(name):
    """The arguments without which a setting is refused."""
    return ["--tls-cert", "cert.pem"] if name in {"tls_key", "tls_ca"} else []


@pytest.fixture(autouse=True)
def nothing_else_is_set(monkeypatch, tmp_path):
    """There is no pyproject.toml, and no variable FDPASS_... is set."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FDPASS_")]:
        monkeypatch.delenv(name)


def test_each_setting_has_an_option_in_the_order_of_the_fields():
    assert list(PARAMETERS) == [*NAMES, "config", "check"]


@pytest.mark.parametrize("name", NAMES)
def test_an_option_has_the_name_the_variable_and_the_help_of_its_setting(name):
    parameter = PARAMETERS[name]
    assert parameter.envvar == f"FDPASS_{name.upper()}"
    if name != "app":
        assert parameter.opts == [flag(name)]
        assert parameter.help.startswith(SETTINGS[name].help.replace("`", ""))
        assert "`" not in parameter.help


@pytest.mark.parametrize("name", NAMES)
def test_a_value_on_the_command_line_reaches_the_config(name):
    _, expected = example(name)
    assert (
        getattr(made([*needed(name), *arguments(name)]), name)
        == expected
        != Config.__dataclass_fields__[name].default
        or name == "app_dir"
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_value_in_the_environment_reaches_the_config(name):
    text, _ = example(name)
    assert made(needed(name), {f"FDPASS_{name.upper()}": text}) == made([*needed(name), *arguments(name)])


@pytest.mark.parametrize(
    ("name", "values"), [("bind", ["unix:a", "unix:b"]), ("resume", ["/ws", "/events"])], ids=["bind", "resume"]
)
def test_a_repeatable_option_takes_its_values_from_flags_environment_and_file(name, values, tmp_path):
    flags = [word for value in values for word in (flag(name), value)]
    assert getattr(made(flags), name) == tuple(values)
    assert getattr(made([], {f"FDPASS_{name.upper()}": " ".join(values)}), name) == tuple(values)
    file = tmp_path / "fdpass.toml"
    file.write_text(f"{name} = {values}\n")
    assert getattr(made(["--config", str(file)]), name) == tuple(values)
    file.write_text(f"{name} = {values[0]!r}\n")
    assert getattr(made(["--config", str(file)]), name) == (values[0],)


def test_without_options_the_config_has_its_defaults():
    assert made([]) == Config()


@pytest.mark.parametrize("name", [name for name in NAMES if SETTINGS[name].choices])
def test_an_option_has_the_choices_of_its_setting(name):
    assert tuple(PARAMETERS[name].type.choices) == SETTINGS[name].choices
    with pytest.raises(click.BadParameter):
        made([flag(name), "nonsense"])


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("bind", "127.0.0.1:8000"),
        ("workers", "one per usable processor, at least 2"),
        ("spare", "0"),
        ("replay", "safe"),
        ("resume", "none"),
        ("keep_alive", "5"),
        ("group", "the user's own"),
        ("tls_key", "the file of --tls-cert"),
        ("app_dir", "."),
    ],
)
def test_help_shows_the_default_as_a_user_types_it_or_in_words(name, shown):
    assert PARAMETERS[name].help.endswith(f"  [default: {shown}]")


@pytest.mark.parametrize("name", ["tls_cert", "factory", "access_log"])
def test_help_shows_no_default_that_is_empty(name):
    assert "[default" not in PARAMETERS[name].help


@pytest.mark.parametrize("option", _HINTS)
def test_an_option_of_uvicorn_or_gunicorn_is_answered_with_its_counterpart(option):
    with pytest.raises(click.NoSuchOption, match=f"No such option '{option}': ") as caught:
        serve.make_context("serve", [option, "x"])
    assert _HINTS[option] in caught.value.format_message()
    assert "Did you mean" not in caught.value.format_message()


def test_the_options_that_a_hint_names_exist_and_those_that_it_answers_do_not():
    known = {each for parameter in serve.params for each in parameter.opts}
    assert not known & set(_HINTS)
    assert {word for hint in _HINTS.values() for word in re.findall(r"--[a-z-]+", hint)} <= known
