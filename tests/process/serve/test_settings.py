"""Settings from flags, environment and TOML files, in this order of precedence; wrong ones are refused."""

import os
import subprocess
import sys

import pytest

from fdpass.serve.shared.config import NAMES


@pytest.fixture
def check(tmp_path):
    """Run ``fdpass serve --check`` in a folder of its own; returns the finished process."""

    def run(*arguments, env=None, files=None):
        for name, text in (files or {}).items():
            (tmp_path / name).write_text(text)
        return subprocess.run(
            [sys.executable, "-m", "fdpass", "serve", "--check", *arguments],
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def refused(done):
    """Return the last line of standard error of a command that refused its settings."""
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_help_mentions_every_setting_and_where_else_it_can_come_from():
    done = subprocess.run([sys.executable, "-m", "fdpass", "serve", "--help"], capture_output=True, text=True)
    for name in NAMES:
        assert name == "app" or f"--{name.replace('_', '-')} " in done.stdout, name
    for word in ("FDPASS_", "[tool.fdpass]", "--config", "--check", "SIGHUP"):
        assert word in done.stdout


PYPROJECT = """
[tool.fdpass]
workers = 3
bind = "127.0.0.1:3"
app = "fdpass.serve.worker.welcome:app"
max-rss = "500M"
keep_alive = 2
factory = false
"""


def test_a_flag_overrides_the_environment_which_overrides_a_file(check):
    files = {"pyproject.toml": PYPROJECT}
    env = {"FDPASS_BIND": "127.0.0.1:4 [::1]:4", "FDPASS_WORKERS": "4"}
    done = check(files=files)
    assert "3 workers at 127.0.0.1:3: settings and application are valid" in done.stdout
    done = check(env=env)
    assert "4 workers at 127.0.0.1:4, [::1]:4:" in done.stdout
    done = check("--bind", "127.0.0.1:5", "--bind", "unix:s", env=env)
    assert "4 workers at 127.0.0.1:5, unix:s:" in done.stdout


def test_a_file_of_config_is_read_instead_of_pyproject_toml(check):
    files = {
        "pyproject.toml": PYPROJECT,
        "bare.toml": "workers = 6\n",
        "table.toml": "[tool.fdpass]\nworkers = 7\nbind = ['127.0.0.1:7', '[::1]:7']\n",
    }
    assert "6 workers at 127.0.0.1:8000:" in check("--config", "bare.toml", files=files).stdout
    assert "7 workers at 127.0.0.1:7, [::1]:7:" in check(env={"FDPASS_CONFIG": "table.toml"}).stdout
    assert "2 workers" in check("--config", "table.toml", "--workers", "2").stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool]\nfdpass = 3", "tool.fdpass is not a table"),
        ("[tool.fdpass]\nworkrs = 3", "there is no setting 'workrs': did you mean 'workers'?"),
        ("[tool.fdpass]\nworkers = '3'", "--workers takes a whole number, not '3'"),
        ("[tool.fdpass]\nbind = [3]", "--bind takes one or more addresses, not [3]"),
        ("[tool.fdpass]\nfactory = 'si'", "--factory takes true or false, not 'si'"),
        ("[tool.fdpass]\nworkers = ", "pyproject.toml is not TOML"),
        ('[tool.fdpass]\nuser = "a\\u0000b"', "--user 'a\\x00b': has a null character"),
    ],
)
def test_a_file_with_a_wrong_setting_is_refused(check, text, said):
    line = refused(check(files={"pyproject.toml": text}))
    assert "pyproject.toml" in line
    assert said in line


@pytest.mark.parametrize(
    ("flags", "env", "said"),
    [
        (("--workrs", "2"), {}, "Did you mean '--workers'?"),
        (("--workers", "0"), {}, "--workers 0: must be from 1 to"),
        ((), {"FDPASS_WORKERS": "many"}, "'many' is not a valid integer"),
        (("--bind", "nonsense"), {}, "write HOST:PORT, [::1]:PORT, unix:PATH or fd://N"),
        (("--keep-alive", "nan"), {}, "--keep-alive takes a finite number"),
        (("--max-rss", "much"), {}, "is not a size"),
        (("--balance", "fair"), {}, "is not one of 'least', 'round-robin', 'hash'"),
        (("--max-connections", "16000000"), {}, "--max-connections 16,000,000 cannot fit: "),
        (("--tls-key", "key.pem"), {}, "need --tls-cert"),
        (("--tls-cert", "nix.pem"), {}, "--tls-cert nix.pem: No such file or directory"),
        (("--user", "nobody-of-this-name"), {}, "there is no such user"),
        (("--app-dir", "nix"), {}, "--app-dir 'nix' is not a folder"),
        (("--config", "nix.toml"), {}, "cannot read nix.toml: No such file or directory"),
        (("app.py",), {}, "give MODULE:NAME, such as shop.main:app"),
        (("./app.py:app",), {}, "did you mean app:app?"),
        (("app:make()",), {}, "did you mean app:make --factory?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_wrong_setting_is_refused_with_a_sentence_and_exit_code_2(check, flags, env, said):
    assert said in refused(check(*flags, env=env))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("nix:app", "", "there is no module 'nix'"),
        ("app:app", "import missing", "No module named 'missing'"),
        ("app:app", "raise LookupError('no database')", "LookupError: no database"),
        ("app:app", "def app(a, b, c, d): pass", "say which with --interface"),
        ("app:nothing", "", "module 'app' has no 'nothing'"),
        ("app.py:app", "def app(a, b): pass", "did you mean app:app?"),
    ],
)
def test_check_reports_why_the_application_cannot_be_served(check, name, text, said):
    done = check(name, files={"app.py": text})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("fdpass serve: ")
    assert said in done.stderr
    assert "fdpass/serve" not in done.stderr  # a traceback, if any, is the application's alone


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--interface", "wsgi"), "--interface wsgi: the application is async"),
        (
            ("--access-log", "none/log"),
            "cannot make the access log none/log: folder none: No such file or directory",
        ),
        (("--access-log", "."), "cannot write the access log .: Is a directory"),
        (("--pidfile", "app.py/pid"), "cannot make the pidfile app.py/pid: folder app.py: Not a directory"),
        (("--bind", "unix:app.py/s"), "cannot make the socket app.py/s: folder app.py: Not a directory"),
        (("--control", "app.py/c"), "cannot make the control socket app.py/c: folder app.py: Not a directory"),
        (("--pidfile", "."), "cannot write the pidfile .: Is a directory"),
        (("--bind", "unix:" + "x" * 108), "has 108 bytes, but the address of a Unix socket has at most 107"),
        (("--control", "x" * 108), "has 108 bytes, but the address of a Unix socket has at most 107"),
        (("--bind", "unix:"), "'' is no address of a Unix socket: it is empty"),
    ],
)
def test_check_reports_what_a_start_could_not_open(check, tmp_path, flags, said):
    done = check("app:app", *flags, files={"app.py": "async def app(scope, receive, send): pass"})
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert said in done.stderr
    assert set(os.listdir(tmp_path)) - {"__pycache__"} == {"app.py"}


def test_check_prints_the_interface_of_the_application(check):
    files = {"app.py": "async def handle(reader, writer): pass\ndef main(listener): pass\n"}
    assert "app:handle (stream): 2 workers" in check("app:handle", "--workers", "2", files=files).stdout
    assert "app:main (listener)" in check("app:main").stdout


def test_the_environment_and_a_file_reach_the_running_server(serve):
    files = {"more.toml": "app = 'app:app'\nworkers = 9\nlog-level = 'warning'\n"}
    server = serve(None, "--workers", "1", "--config", "more.toml", files=files, env={"FDPASS_LOG_JSON": "1"})
    assert server.get()[1] == str(server.workers()[0])
    assert server.log() == ""  # neither at level info


def test_run_serves_from_python(serve, tmp_path):
    script = tmp_path / "main.py"
    script.write_text(
        "import fdpass.serve, sys\n"
        "options = dict(zip(sys.argv[3::2], sys.argv[4::2]))\n"
        "options = {name[2:]: value for name, value in options.items() if name != '--workers'}\n"
        "fdpass.serve.run(sys.argv[2], workers=1, keep_alive=1, **options)\n"
        "print('returned')\n"
    )
    server = serve(launch=(sys.executable, str(script)))
    assert server.get()[1] == str(server.workers()[0])
    assert server.stop() == 0
    assert server.log().endswith("returned\n")


def test_run_raises_a_wrong_setting(tmp_path):
    script = """if True:
        import fdpass.serve
        try:
            fdpass.serve.run("a:b", wrokers=1)
        except ValueError as error:
            print(type(error).__name__, error)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "ConfigError there is no setting 'wrokers': did you mean 'workers'?\n"
