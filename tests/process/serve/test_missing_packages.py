"""What a server says when a package that it needs is not installed, and what it serves without it."""

import os
import subprocess
import sys

import pytest

APPS = """
async def asgi(scope, receive, send):
    pass

def wsgi(environ, start_response):
    pass

async def stream(reader, writer):
    writer.write(b"served")
    writer.close()
"""


HIDE = """
import sys

class Hides:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == %r:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hides())
"""


@pytest.fixture
def without(tmp_path):
    """``without(package)``: an environment in which Python finds no such package."""

    def hide(package):
        (tmp_path / "hidden").mkdir()
        (tmp_path / "hidden" / "sitecustomize.py").write_text(HIDE % package)
        paths = [str(tmp_path / "hidden"), os.environ.get("PYTHONPATH")]
        return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}

    return hide


@pytest.mark.parametrize(
    ("interface", "package", "flags"),
    [
        ("asgi", "httptools", ()),
        ("asgi", "httptools", ("--check",)),
        ("asgi", "uvicorn", ()),
        ("asgi", "uvicorn", ("--check",)),
        ("wsgi", "httptools", ()),
    ],
)
def test_a_server_whose_engine_needs_a_missing_package_ends_with_one_sentence(
    tmp_path, without, interface, package, flags
):
    (tmp_path / "apps.py").write_text(APPS)
    done = subprocess.run(
        [sys.executable, "-m", "fdpass", "serve", f"apps:{interface}", "--bind", "127.0.0.1:0", *flags],
        cwd=tmp_path,
        env={**os.environ, **without(package)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    wanted = f"cannot serve {interface}: No module named '{package}': install it with pip install 'fdpass[serve]'"
    assert done.returncode == 1
    assert done.stderr.count(wanted) == 1
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize("flags", [(), ("--check",)])
def test_a_missing_event_loop_is_told_in_one_sentence(tmp_path, without, flags):
    (tmp_path / "apps.py").write_text(APPS)
    command = [sys.executable, "-m", "fdpass", "serve", "apps:stream", "--bind", "127.0.0.1:0", "--loop", "uvloop"]
    done = subprocess.run(
        [*command, *flags],
        cwd=tmp_path,
        env={**os.environ, **without("uvloop")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert (
        done.stderr.count("--loop uvloop: it is not installed: install it with pip install 'fdpass[serve]'") == 1
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "package", "problem"),
    [
        (["serve", "--once"], "httptools", "cannot serve asgi: No module named 'httptools'"),
        (["live"], "httptools", "cannot serve asgi: No module named 'httptools'"),
        (["live"], "websockets", "No module named 'websockets'"),
    ],
)
def test_a_demonstration_names_a_missing_package_before_it_starts_anything(without, command, package, problem):
    done = subprocess.run(
        [sys.executable, "-m", "fdpass", "demo", *command],
        env={**os.environ, **without(package)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = f"fdpass demo: {problem}: install it with pip install 'fdpass[serve]'"
    assert (done.returncode, done.stderr, done.stdout) == (1, said + "\n", "")


def test_other_protocols_than_http_need_no_parser_of_it(serve, without):
    server = serve("apps:stream", "--workers", "1", files={"apps.py": APPS}, env=without("httptools"))
    assert server.exchange(b"") == b"served"
