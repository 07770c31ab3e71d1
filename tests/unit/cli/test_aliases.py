"""Options of uvicorn and gunicorn: aliases of settings, conflicts, and variables of the environment."""

import os

import click
import pytest
from click.testing import CliRunner

from fdpass._cli import aliases, environment
from fdpass._cli.dashboard import dashboard
from fdpass._cli.habits import hint_for
from fdpass._cli.serve import _config, serve
from fdpass.errors import ConfigError
from fdpass.serve import server
from fdpass.serve.shared.config import NAMES, SETTINGS

GUNICORN = """
-b --bind --backlog -w --workers -k --worker-class --threads --worker-connections --max-requests
--max-requests-jitter -t --timeout --graceful-timeout --keep-alive --limit-request-line --limit-request-fields
--limit-request-field_size --reload --reload-engine --reload-extra-file --spew --check-config --print-config
--preload --no-sendfile --reuse-port --chdir -D --daemon -e --env -p --pid --worker-tmp-dir -u --user -g
--group -m --umask --initgroups --forwarded-allow-ips --access-logfile --disable-redirect-access-to-syslog
--access-logformat --error-logfile --log-file --log-level --capture-output --logger-class --log-config
--log-config-json --log-syslog-to --log-syslog --log-syslog-prefix --log-syslog-facility -R
--enable-stdio-inheritance --statsd-host --dogstatsd-tags --statsd-prefix --enable-backlog-metric -n --name
--pythonpath --paste --paster --proxy-protocol --proxy-allow-from --protocol --uwsgi-allow-from --keyfile
--certfile --ssl-version --cert-reqs --ca-certs --suppress-ragged-eofs --do-handshake-on-connect --ciphers
--http-protocols --http2-cleartext --http2-max-concurrent-streams --http2-initial-window-size
--http2-max-frame-size --http2-max-header-list-size --paste-global --permit-obsolete-folding
--strip-header-spaces --permit-unconventional-http-method --permit-unconventional-http-version
--casefold-http-method --forwarder-headers --header-map --asgi-loop --asgi-lifespan
--asgi-disconnect-grace-period --websocket-max-message-size --http-parser --root-path --dirty-app
--dirty-workers --dirty-timeout --dirty-threads --dirty-graceful-timeout --control-socket
--control-socket-mode --no-control-socket
""".split()
INSTEAD = "write the settings as options of fdpass serve, or as variables such as FDPASS_WORKERS"
OPTIONS = {option for parameter in serve.params for option in (*parameter.opts, *parameter.secondary_opts)}


def made(*words, **variables):
    """The settings that the command makes from these words, and from variables of the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        context = serve.make_context("serve", list(words))
    return _config(
        {name: value for name, value in context.params.items() if name not in {"check", "print_config"}}
    )


@pytest.fixture(autouse=True)
def nothing_else_is_set(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in [*os.environ]:
        if name.startswith("FDPASS_") or name in {"PORT", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS"}:
            monkeypatch.delenv(name)


def test_every_option_of_uvicorn_is_taken_or_refused_with_what_to_use_instead():
    main = pytest.importorskip("uvicorn.main").main
    theirs = {option for parameter in main.params for option in (*parameter.opts, *parameter.secondary_opts)}
    theirs = {option for option in theirs if option.startswith("-")} - {"--version"}
    assert "--root-path" in theirs
    assert sorted(option for option in theirs if option not in OPTIONS and not hint_for(option)) == []


def test_every_option_of_gunicorn_is_taken_or_refused_with_what_to_use_instead():
    assert [option for option in GUNICORN if option not in OPTIONS and not hint_for(option)] == []


@pytest.mark.parametrize(
    ("words", "bind"),
    [
        (["--port", "80"], ("127.0.0.1:80",)),
        (["--port", "0"], ("127.0.0.1:0",)),
        (["--host", "0.0.0.0"], ("0.0.0.0:8000",)),
        (["--host", "::1", "--port", "80"], ("[::1]:80",)),
        (["--host", "[::1]"], ("[::1]:8000",)),
        (["--uds", "/run/a"], ("unix:/run/a",)),
        (["--fd", "3"], ("fd://3",)),
        (["-b", ":80", "-b", "unix:a"], (":80", "unix:a")),
        (["-b", ":80", "--bind", "unix:a"], ("unix:a", ":80")),
    ],
)
def test_an_address_can_be_given_as_to_uvicorn_and_to_gunicorn(words, bind):
    assert made(*words).bind == bind


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["-w", "3"], "workers", 3),
        (["--limit-max-requests", "9"], "max_requests", 9),
        (["--limit-max-requests-jitter", "9"], "max_requests_jitter", 9),
        (["--max-requests-jitter", "9"], "max_requests_jitter", 9),
        (["--timeout-keep-alive", "9"], "keep_alive", 9),
        (["--timeout-keep-alive", "0"], "keep_alive", 0),
        (["--timeout-graceful-shutdown", "9"], "graceful_timeout", 9),
        (["--limit-concurrency", "9"], "limit_concurrency", 9),
        (["--ws-max-size", "9"], "ws_max_size", 9),
        (["--websocket-max-message-size", "9"], "ws_max_size", 9),
        (["--ws-ping-interval", "9"], "ws_ping_interval", 9),
        (["--ws-ping-timeout", "9"], "ws_ping_timeout", 9),
        (["--ssl-certfile", "c"], "tls_cert", "c"),
        (["--certfile", "c", "--keyfile", "k"], "tls_key", "k"),
        (["--access-logfile", "-"], "access_log", "-"),
        (["--access-logformat", "%(h)s"], "access_log_format", "%(h)s"),
        (["--no-access-log"], "access_log", ""),
        (["--log-config-json", "l.json"], "log_config", "l.json"),
        (["-p", "f"], "pidfile", "f"),
        (["--pid", "f"], "pidfile", "f"),
        (["-u", "u", "-g", "g"], "group", "g"),
        (["--asgi-lifespan", "off"], "lifespan", "off"),
        (["--asgi-loop", "asyncio"], "loop", "asyncio"),
        (["--root-path", "/shop/"], "root_path", "/shop"),
        (["--header", "X-A: b", "--header", "X-B:c"], "header", ("X-A: b", "X-B:c")),
        (["--no-date-header"], "no_date_header", True),
        (["--date-header"], "no_date_header", False),
        (["--no-server-header"], "header", ()),
        (["--proxy-headers"], "forwarded_allow_ips", "127.0.0.1,::1,unix"),
        (["--no-proxy-headers"], "forwarded_allow_ips", ""),
        (["--forwarded-allow-ips", "*"], "forwarded_allow_ips", "*"),
        (["--http", "auto"], "header", ()),
        (["--http", "httptools"], "header", ()),
    ],
)
def test_an_alias_gives_its_setting_the_value(words, name, value):
    assert getattr(made(*words), name) == value


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--port", "80", "--bind", ":90"],
            "--port and --bind cannot be combined: they give the same setting, --bind",
        ),
        (["--uds", "a", "--host", "b"], "--host and --uds cannot be combined: they give the same setting, --bind"),
        (["--uds", "a", "-b", ":80"], "-b and --uds cannot be combined: they give the same setting, --bind"),
        (
            ["-w", "2", "--workers", "3"],
            "-w and --workers cannot be combined: they give the same setting, --workers",
        ),
        (["--certfile", "a", "--ssl-certfile", "b"], "--ssl-certfile and --certfile cannot be combined"),
        (["--http", "h11"], "--http h11: fdpass speaks HTTP/1.1 itself, with the parser of httptools"),
        (["--port", "x"], "is not a valid integer"),
        (["-w", "0"], "--workers 0: must be from 1 to"),
        (["--asgi-loop", "x"], "is not one of"),
        (["--forwarded-allow-ips", "nginx"], "--forwarded-allow-ips 'nginx': write addresses, networks such as"),
        (["--no-proxy-headers", "--forwarded-allow-ips", "*"], "cannot be combined: they give the same setting"),
    ],
)
def test_a_conflict_or_a_wrong_value_is_an_error_of_usage(words, sentence):
    with pytest.raises(click.UsageError) as caught:
        made(*words)
    assert sentence in caught.value.format_message()
    assert caught.value.exit_code == 2


def test_a_flag_that_is_an_alias_takes_precedence_over_environment_and_file(tmp_path):
    (tmp_path / "s.toml").write_text("workers = 5\n")
    assert made("-w", "3", "-c", "s.toml", FDPASS_WORKERS="4").workers == 3
    assert made("--no-access-log", FDPASS_ACCESS_LOG="-").access_log == ""
    assert made("--date-header", FDPASS_NO_DATE_HEADER="1").no_date_header is False


def test_help_names_the_aliases_of_a_setting_in_its_text_and_lists_none_of_them():
    parameters = {parameter.name: parameter for parameter in serve.params}
    for name in NAMES:
        for option in aliases.NAMES[name]:
            assert f"{option}" in parameters[name].help.partition("also: ")[2].replace("]", "").split(", ")
    assert parameters["keep_alive"].help.endswith("[default: 5; also: --timeout-keep-alive]")
    text = serve.get_help(click.Context(serve))
    assert not [alias for alias in aliases.ALIASES if f"\n  {alias.option} " in text]


def test_each_alias_is_of_a_setting():
    assert {alias.setting for alias in aliases.ALIASES} <= {*SETTINGS, ""}
    assert len({alias.option for alias in aliases.ALIASES}) == len(aliases.ALIASES)


def test_web_concurrency_is_the_number_of_workers_if_nothing_else_gives_one(tmp_path):
    (tmp_path / "s.toml").write_text("workers = 5\n")
    assert made(WEB_CONCURRENCY="3").workers == 3
    assert made("-w", "2", WEB_CONCURRENCY="3").workers == 2
    assert made(WEB_CONCURRENCY="3", FDPASS_WORKERS="4").workers == 4
    assert made("-c", "s.toml", WEB_CONCURRENCY="3").workers == 5
    assert made(WEB_CONCURRENCY="").workers == made().workers
    with pytest.raises(click.UsageError, match="WEB_CONCURRENCY='x' in the environment is not a number"):
        made(WEB_CONCURRENCY="x")


def test_forwarded_allow_ips_is_read_from_the_environment_if_nothing_else_gives_it():
    assert made(FORWARDED_ALLOW_IPS="10.0.0.1").forwarded_allow_ips == "10.0.0.1"
    assert made("--forwarded-allow-ips", "*", FORWARDED_ALLOW_IPS="10.0.0.1").forwarded_allow_ips == "*"
    assert made("--no-proxy-headers", FORWARDED_ALLOW_IPS="10.0.0.1").forwarded_allow_ips == ""


def test_with_reload_there_is_one_worker_unless_something_gives_another_number():
    assert made("--reload").workers == 1
    assert made("--reload", "-w", "3").workers == 3
    assert made("--reload", WEB_CONCURRENCY="3").workers == 3


def test_on_a_terminal_the_access_log_is_on_unless_something_says_otherwise(monkeypatch):
    assert made().access_log == ""
    monkeypatch.setattr(os, "isatty", {1: True}.__getitem__)
    assert made().access_log == "-"
    assert made("--no-access-log").access_log == ""
    assert made("--access-log", "a").access_log == "a"
    assert made(FDPASS_ACCESS_LOG="a").access_log == "a"


def test_port_is_that_of_all_ipv4_addresses_and_the_default_of_the_option():
    """The former is what gunicorn does; uvicorn knows no such variable."""
    assert made(PORT="80").bind == ("0.0.0.0:80",)
    assert made("--host", "::", PORT="80").bind == ("[::]:80",)
    assert made("--port", "90", PORT="80").bind == ("127.0.0.1:90",)
    assert made("-b", ":90", PORT="80").bind == (":90",)
    assert made(PORT="80", FDPASS_BIND="unix:a").bind == ("unix:a",)
    with pytest.raises(click.UsageError, match="PORT='tcp://1' in the environment is not a port"):
        made(PORT="tcp://1")


def test_the_file_of_env_file_gives_settings_below_the_environment(tmp_path):
    pytest.importorskip("dotenv")
    (tmp_path / "e").write_text(
        "WEB_CONCURRENCY=7\nexport FDPASS_KEEP_ALIVE='9'\nFDPASS_BIND='unix:a unix:b' # two\n"
    )
    config = made("--env-file", "e", FDPASS_KEEP_ALIVE="8")
    assert (config.workers, config.keep_alive, config.bind) == (7, 8, ("unix:a", "unix:b"))
    assert "WEB_CONCURRENCY" not in os.environ
    assert made("--env-file", "e", "-w", "2").workers == 2


def test_an_env_file_that_cannot_be_read_is_an_error_of_usage(tmp_path):
    pytest.importorskip("dotenv")
    (tmp_path / "bad").write_bytes(b"A=\xff\n")
    for name, reason in {"none": "cannot be read: No such file", "bad": "is not text in UTF-8"}.items():
        with pytest.raises(click.UsageError, match=f"--env-file {name}: {reason}"):
            made("--env-file", name)


def sentences(monkeypatch, **variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return list(environment.misspelt(os.environ, "the environment", NAMES, aliases.NAMES))


def test_a_misspelt_variable_is_reported_with_the_right_name(monkeypatch):
    assert sentences(monkeypatch, FDPASS_WORKER="3", FDPASS_WORKERS="4") == [
        "FDPASS_WORKER in the environment has no effect: did you mean FDPASS_WORKERS?"
    ]


@pytest.fixture
def warnings(monkeypatch):
    """``warnings(*args)``: the warnings of a start that is refused once the settings have been read."""

    def refuse(_):
        raise ConfigError("refused")

    def warnings(*args):
        monkeypatch.setattr(server, "check", refuse)
        outcome = CliRunner().invoke(serve, [*args, "--check"])
        assert "refused" in outcome.output
        start = "fdpass serve: warning: "
        return [line.removeprefix(start) for line in outcome.output.splitlines() if line.startswith(start)]

    return warnings


def test_a_variable_without_effect_of_an_env_file_is_reported_with_the_name_of_the_file(tmp_path, warnings):
    pytest.importorskip("dotenv")
    (tmp_path / "e").write_text("FDPASS_WORKER=3\nUVICORN_PORT=80\nUVICORN_OTHER=80\n")
    assert warnings("--env-file", "e") == [
        "FDPASS_WORKER in the file e has no effect: did you mean FDPASS_WORKERS?",
        f"UVICORN_PORT in the file e has no effect: {INSTEAD}",
    ]


def test_variables_that_configure_uvicorn_and_gunicorn_are_reported_once(monkeypatch, warnings):
    for name in (
        "UVICORN_SERVICE_HOST",
        "UVICORN_PORT_80_TCP_PORT",
        "GUNICORN_OTHER",
    ):  # two of Kubernetes
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("UVICORN_PORT", "tcp://10.0.0.1:80")
    assert warnings() == []
    for name in ("GUNICORN_CMD_ARGS", "UVICORN_HOST", "UVICORN_PORT", "UVICORN_WS", "UVICORN_RELOAD_DIRS"):
        monkeypatch.setenv(name, "1")
    names = "GUNICORN_CMD_ARGS, UVICORN_HOST, UVICORN_PORT, UVICORN_RELOAD_DIRS, UVICORN_WS"
    assert warnings() == [f"{names} in the environment have no effect: {INSTEAD}"]


def test_an_alias_as_a_variable_is_reported(monkeypatch):
    assert sentences(monkeypatch, FDPASS_TIMEOUT_KEEP_ALIVE="3") == [
        "FDPASS_TIMEOUT_KEEP_ALIVE in the environment has no effect: did you mean FDPASS_KEEP_ALIVE?"
    ]


@pytest.mark.parametrize("name", ["LOG_LEVEL", "LOG_JSON", "CONTROL"])
def test_a_variable_that_no_dashboard_has_is_reported_with_the_one_that_has_an_effect(monkeypatch, name):
    assert sentences(monkeypatch, **{f"FDPASS_DASHBOARD_{name}": "a"}) == [
        f"FDPASS_DASHBOARD_{name} in the environment has no effect: did you mean FDPASS_{name}?"
    ]


def test_each_variable_of_the_dashboard_is_that_of_an_option(monkeypatch):
    expected = {param.envvar for param in dashboard.params} - {None, "FDPASS_CONTROL"}
    assert {f"FDPASS_DASHBOARD_{name}" for name in environment._DASHBOARD} == expected
    assert sentences(monkeypatch, **dict.fromkeys(expected, "a")) == []


def test_variables_of_other_commands_and_of_kubernetes_are_not_reported(monkeypatch):
    found = sentences(
        monkeypatch,
        FDPASS_CONFIG="a",
        FDPASS_MESSAGE="a",
        FDPASS_KEEP_CONTROL="a",
        FDPASS_CONTROL="a",
        FDPASS_PORT="tcp://10.0.0.1:80",
        FDPASS_SERVICE_HOST="10.0.0.1",
        FDPASS_PORT_80_TCP_ADDR="10.0.0.1",
    )
    assert found == []


def test_a_configuration_of_gunicorn_is_refused_with_what_to_write(tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text("bind = ':80'\ndef on_starting(server): pass\n")
    with pytest.raises(click.UsageError, match="is Python, as gunicorn's configuration: write the settings"):
        made("-c", "gunicorn.conf.py")
