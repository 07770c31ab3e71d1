"""The options of ``fdpass serve``: made from the fields of `Config`, and their values reach a `Config`."""

import importlib
import os
import re

import click
import pytest

from fdpass._cli import aliases
from fdpass._cli.habits import (
    _COUNTERPARTS,
    _HINTS,
    _HINTS_BY_START,
    _OPTIONS_OF_NAMES,
    _VALUES,
    hint_for,
    hint_for_name,
)
from fdpass._cli.serve import _config, reread, serve
from fdpass.errors import ConfigError
from fdpass.serve.shared.config import NAMES, SETTINGS, Config
from fdpass.serve.shared.setting import flag

ALIASES = {alias.parameter for alias in aliases.ALIASES}
PARAMETERS = {parameter.name: parameter for parameter in serve.params if parameter.name not in ALIASES}
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
    "texts": (os.curdir, (os.curdir,)),
    "headers": ("X-A:b", ("X-A:b",)),
}
TEXTS = {
    "root_path": "/shop",
    "access_log_format": "%(h)s",
    "forwarded_allow_ips": "unix",
    "env_file": "empty",
}  # of settings that do not take any text


def example(name):
    choices = SETTINGS[name].choices
    if name in TEXTS:
        return TEXTS[name], TEXTS[name]
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
    return _config(
        {name: value for name, value in context.params.items() if name not in {"check", "print_config"}}
    )


def needed(name):
    """The arguments without which a setting is refused."""
    return ["--tls-cert", "cert.pem"] if name in {"tls_key", "tls_ca"} else []


@pytest.fixture(autouse=True)
def nothing_else_is_set(monkeypatch, tmp_path):
    """There is no pyproject.toml, and no variable FDPASS_... is set. The example of a path is an empty file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").touch()
    for name in [name for name in os.environ if name.startswith("FDPASS_")]:
        monkeypatch.delenv(name)


def test_each_setting_has_an_option_in_the_order_of_the_fields():
    assert list(PARAMETERS) == [*NAMES, "config", "check", "print_config"]


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
    for choice in SETTINGS[name].choices:
        assert getattr(made([flag(name), choice.upper()]), name) == choice


@pytest.mark.parametrize(("name", "value"), _VALUES)
def test_a_value_of_uvicorn_that_is_no_choice_is_answered_with_what_to_write(name, value, tmp_path):
    (tmp_path / "a.toml").write_text(f"{name} = '{value}'\n")
    for args in ([flag(name), value], [flag(name), value.upper()], ["--config", "a.toml"]):
        with pytest.raises(click.BadParameter, match=f"(?i)'{value}': {re.escape(_VALUES[name, value])}.$"):
            made(args)


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
    other = f"; also: {', '.join(aliases.NAMES[name])}" if aliases.NAMES[name] else ""
    assert PARAMETERS[name].help.endswith(f"  [default: {shown}{other}]")


@pytest.mark.parametrize("name", ["tls_cert", "factory", "log_config"])
def test_help_shows_no_default_that_is_empty(name):
    assert "default:" not in PARAMETERS[name].help


@pytest.mark.parametrize("option", _HINTS)
def test_an_option_of_uvicorn_or_gunicorn_is_answered_with_its_counterpart(option):
    with pytest.raises(click.NoSuchOption, match=f"No such option '{option}': ") as caught:
        serve.make_context("serve", [option, "x"])
    assert _HINTS[option] in caught.value.format_message()
    assert "Did you mean" not in caught.value.format_message()


def test_all_refused_options_of_a_command_line_are_reported_together():
    with pytest.raises(click.NoSuchOption) as caught:
        args = ["app:app", "-kgthread", "--ws=auto", "-w", "3", "--statsd-host", "a", "-e", "A=1", "-e", "B=2"]
        serve.make_context("serve", [*args, "--", "--daemon"])
    options = [re.match(r"No such option '(.*)': .*\.$", line)[1] for line in str(caught.value).splitlines()]
    assert options == ["-k", "--ws", "--statsd-host", "-e"]


def test_the_options_that_a_hint_names_exist_and_those_that_it_answers_do_not():
    known = {each for parameter in serve.params for each in parameter.opts}
    assert not known & set(_HINTS)
    hints = " ".join([*_HINTS.values(), *_HINTS_BY_START.values()]).replace("fdpass status --json", "")
    assert set(re.findall(r"--[a-z-]+", hints)) <= known


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"workers = {'9' * 5000}", "has a number with too many digits"),
        (f"workers = {'[' * 3000}1{']' * 3000}", "has too many arrays or tables within each other"),
        ('env-file = "a\\u0000b"', "--env-file 'a\\x00b': has a null character"),
    ],
    ids=["digits", "nesting", "null"],
)
def test_a_file_that_python_cannot_read_or_use_is_refused_in_a_sentence(tmp_path, text, words):
    file = tmp_path / "fdpass.toml"
    file.write_text(text)
    with pytest.raises(click.UsageError, match=re.escape(words)):
        made(["--config", str(file)])
    with pytest.raises(ConfigError, match=re.escape(words)):
        reread(["--config", str(file)])


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("a.toml", "workers"),
        ("a.toml", "keep-alive"),
        ("a.toml", "workrs"),
        ("pyproject.toml", "workers"),
    ],
)
def test_a_setting_beside_the_table_of_fdpass_is_refused(tmp_path, file, key):
    """It would have no effect. Tables may be those of other programs."""
    (tmp_path / file).write_text(f"{key} = 3\n[tool.fdpass]\nspare = 1\n[tool.ruff]\n[project]\n")
    words = f"{file}: '{key}' has no effect outside of the table [tool.fdpass]: write it below that line"
    with pytest.raises(click.UsageError, match=f"^{re.escape(words)}$"):
        made(["--config", file])
    (tmp_path / file).write_text(f"[tool.fdpass]\nspare = 1\n{key} = 3\n[tool.ruff]\n[project]\n")
    if key != "workrs":
        assert made(["--config", file]).spare == 1


def test_settings_of_uvicorn_and_gunicorn_in_a_file_are_answered_with_their_counterparts(tmp_path):
    (tmp_path / "a.toml").write_text("timeout = 60\nworkers = 3\npreload-app = true\ncertfile = 'a'\nws = 'x'\n")
    with pytest.raises(click.UsageError) as caught:
        made(["--config", "a.toml"])
    assert str(caught.value).splitlines() == [
        f"a.toml: there is no setting 'timeout': {_HINTS['--timeout']}",
        f"a.toml: there is no setting 'preload_app': {_HINTS['--preload-app']}",
        "a.toml: there is no setting 'certfile': did you mean 'tls_cert'?",
        f"a.toml: there is no setting 'ws': {_HINTS['--ws']}",
    ]


def _names_of_gunicorn():
    config = pytest.importorskip("gunicorn.config")
    hooks = {setting.name for setting in config.KNOWN_SETTINGS if callable(setting.default)}
    return {setting.name for setting in config.KNOWN_SETTINGS} - hooks - {"tmp_upload_dir"}


def _names_of_uvicorn():
    uvicorn = importlib.import_module("uvicorn.main")  # its package has a function of this name
    return {parameter.name for parameter in uvicorn.main.params} - {"version", "date_header"}


@pytest.mark.parametrize("names", [_names_of_gunicorn, _names_of_uvicorn])
def test_each_setting_of_gunicorn_and_uvicorn_is_a_setting_or_has_a_hint(names):
    commands = {"config", "check_config", "print_config"}
    assert {name for name in names() if name not in NAMES and hint_for_name(name) is None} <= commands


def test_the_settings_that_a_hint_of_a_name_names_exist():
    assert set(_COUNTERPARTS.values()) <= set(NAMES)
    assert all(hint_for(option) for option in _OPTIONS_OF_NAMES.values())


def test_a_project_without_a_table_of_fdpass_has_no_settings(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[project]\n[tool.ruff]\n")
    assert made([]) == Config()
    with pytest.raises(click.UsageError, match=r"^pyproject.toml has no table \[tool.fdpass\]: write the"):
        made(["--config", "pyproject.toml"])


@pytest.mark.parametrize("name", ["PORT", "WEB_CONCURRENCY"])
def test_a_variable_with_more_digits_than_python_converts_is_refused(name):
    with pytest.raises(click.UsageError, match=f"^{name}='9+' in the environment is not a "):
        made([], {name: "9" * 5000})
