"""The application is imported by its name, and its interface is told from its parameters."""

import functools
import sys

import pytest

from fdpass.errors import StartFailed
from fdpass.serve.worker.application import check_interface, interface_of, is_async

from .._modules import loaded, write

# Importing


@pytest.mark.parametrize("name", ["t_shop.main:app", "t_shop.main:Space.app"])
def test_an_application_is_imported_by_its_name(folder, name):
    write(folder, "t_shop/main", "def app(environ, start_response): ...\nclass Space:\n    app = app")
    assert loaded(folder, name).__name__ == "app"


def test_app_dir_comes_first_on_the_path(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write(other, "t_twice", "def app(a, b): return 'other'")
    write(folder, "t_twice", "def app(a, b): return 'this'")
    sys.path.insert(0, str(other))
    assert loaded(folder, "t_twice:app")(1, 2) == "this"


@pytest.mark.parametrize(
    ("name", "missing"),
    [("t_none:app", "t_none"), ("t_none.main:app", "t_none"), ("t_pack.none:app", "t_pack.none")],
)
def test_a_missing_module_is_named_with_app_dir(folder, name, missing):
    write(folder, "t_pack/__init__", "")
    with pytest.raises(StartFailed) as caught:
        loaded(folder, name)
    assert f"cannot import {name!r}: there is no module {missing!r} in {str(folder)!r} (--app-dir)" in str(
        caught.value
    )


def test_a_file_name_gets_a_hint_with_the_name_of_its_module(folder):
    write(folder, "t_file", "app = print")
    with pytest.raises(StartFailed, match=r"did you mean t_file:app\?$"):
        loaded(folder, "t_file.py:app")


def test_a_missing_module_that_the_application_imports_keeps_its_own_error(folder):
    """Its author needs the traceback."""
    write(folder, "t_wants", "import t_not_installed")
    with pytest.raises(ModuleNotFoundError, match="t_not_installed"):
        loaded(folder, "t_wants:app")


@pytest.mark.parametrize("name", ["t_empty:app", "t_empty:app.sub", "t_empty:"])
def test_a_name_that_is_missing_in_the_module_is_refused(folder, name):
    write(folder, "t_empty", "")
    with pytest.raises(StartFailed, match=r"cannot import .*: module 't_empty' has no '"):
        loaded(folder, name)


def test_an_object_that_cannot_be_called_is_refused(folder):
    write(folder, "t_value", "app = 5")
    with pytest.raises(StartFailed, match="'t_value:app' cannot be called: it is an object of type int"):
        loaded(folder, "t_value:app")


FACTORY = """
def make():
    async def app(scope, receive, send): ...
    return app

def make_with_default(debug=False):
    return make()
"""


@pytest.mark.parametrize("name", ["make", "make_with_default"])
def test_a_factory_makes_the_application(folder, name):
    write(folder, "t_factory", FACTORY)
    assert interface_of(loaded(folder, f"t_factory:{name}", factory=True)) == "asgi"


@pytest.mark.parametrize("name", ["make", "make_with_default"])
def test_a_factory_without_the_option_is_refused_with_a_hint(folder, name):
    write(folder, "t_factory", FACTORY)
    with pytest.raises(StartFailed, match="add --factory"):
        loaded(folder, f"t_factory:{name}")


def test_errors_of_the_module_and_of_the_factory_pass_through(folder):
    write(folder, "t_raises", "def make(): raise LookupError('no table')")
    with pytest.raises(LookupError, match="no table"):
        loaded(folder, "t_raises:make", factory=True)
    write(folder, "t_exits", "import sys; sys.exit('no')")
    with pytest.raises(SystemExit):
        loaded(folder, "t_exits:app")


# Interfaces


async def asgi(scope, receive, send): ...


async def stream(reader, writer): ...


async def connection(conn): ...


def wsgi(environ, start_response): ...


def blocking(sock): ...


def listening(listener): ...


async def listening_async(listener): ...


class DjangoAsgi:
    async def __call__(self, scope, receive, send): ...


class DjangoWsgi:
    def __call__(self, environ, start_response): ...


class FlaskApp:
    def wsgi_app(self, environ, start_response): ...

    def __call__(self, environ, start_response):
        return self.wsgi_app(environ, start_response)


class StarletteApp:
    async def __call__(self, scope, receive, send) -> None: ...

    def listener(self): ...


class Handler:
    async def stream(self, reader, writer): ...

    def blocking(self, connection, *, timeout=5): ...

    @staticmethod
    def wsgi(environ, start_response): ...

    @classmethod
    async def asgi(cls, scope, receive, send): ...


def decorated(app):
    @functools.wraps(app)
    async def wrapper(*args, **kwargs):
        return await app(*args, **kwargs)

    return wrapper


def decorated_plainly(app):
    """A plain function that returns the coroutine, as decorators often do."""

    @functools.wraps(app)
    def wrapper(*args, **kwargs):
        return app(*args, **kwargs)

    return wrapper


INTERFACES = {
    "asgi": (asgi, "asgi"),
    "stream": (stream, "stream"),
    "stream, one parameter": (connection, "stream"),
    "wsgi": (wsgi, "wsgi"),
    "blocking": (blocking, "blocking"),
    "listener": (listening, "listener"),
    "async listener": (listening_async, "listener"),
    "Django's ASGIHandler": (DjangoAsgi(), "asgi"),
    "Django's WSGIHandler": (DjangoWsgi(), "wsgi"),
    "Flask": (FlaskApp(), "wsgi"),
    "Starlette": (StarletteApp(), "asgi"),
    "method, async": (Handler().stream, "stream"),
    "method": (Handler().blocking, "blocking"),
    "static method": (Handler.wsgi, "wsgi"),
    "class method": (Handler.asgi, "asgi"),
    "decorated": (decorated(asgi), "asgi"),
    "decorated, not async": (decorated_plainly(asgi), "asgi"),
    "decorated wsgi": (decorated_plainly(wsgi), "wsgi"),
    "partial": (functools.partial(lambda shop, environ, start_response: ..., "shop"), "wsgi"),
    "partial, async": (functools.partial(asgi, send=None), "stream"),
    "partial of a method": (functools.partial(Handler().stream), "stream"),
    "with defaults": (lambda sock, timeout=5: ..., "blocking"),
}


@pytest.mark.parametrize(("app", "expected"), INTERFACES.values(), ids=INTERFACES)
def test_the_interface_is_told_from_the_application(app, expected):
    assert interface_of(app) == expected


@pytest.mark.parametrize(
    "app",
    [
        lambda: ...,
        lambda *args: ...,
        lambda a, b, c, d: ...,
        print,
        dict,
    ],
    ids=["none", "any", "four", "builtin", "type"],
)
def test_an_application_of_unknown_interface_is_refused_with_a_hint(app):
    with pytest.raises(StartFailed, match="say which with --interface"):
        interface_of(app)


@pytest.mark.parametrize(("app", "interface"), INTERFACES.values(), ids=INTERFACES)
def test_an_application_passes_the_check_of_its_own_interface(app, interface):
    check_interface(app, interface)


def adapting(handle):
    """As werkzeug's ``Request.application`` does."""

    @functools.wraps(handle)
    def adapted(*args):
        return handle(args[0])

    return adapted


@pytest.mark.parametrize(
    ("app", "interface"), [(adapting(lambda request: ...), "wsgi"), (print, "asgi"), (dict, "wsgi")]
)
def test_a_signature_that_does_not_tell_passes_the_check(app, interface):
    check_interface(app, interface)


@pytest.mark.parametrize(
    ("app", "interface", "said"),
    [
        (
            wsgi,
            "asgi",
            r"--interface asgi calls .* with \(scope, receive, send\), .* takes \(environ, start_response\)",
        ),
        (asgi, "wsgi", "--interface wsgi: the application is async"),
        (connection, "blocking", "--interface blocking: the application is async"),
        (asgi, "stream", r"with \(reader, writer\) or \(conn\)"),
        (lambda: ..., "listener", r"takes \(\)"),
    ],
)
def test_an_application_that_its_interface_cannot_call_is_refused(app, interface, said):
    with pytest.raises(StartFailed, match=said):
        check_interface(app, interface)


def test_the_interfaces_of_real_frameworks():
    """Of those that are installed."""
    flask = pytest.importorskip("flask")
    starlette = pytest.importorskip("starlette.applications")
    assert interface_of(flask.Flask("t_flask")) == "wsgi"
    assert interface_of(starlette.Starlette()) == "asgi"
    django_asgi = pytest.importorskip("django.core.handlers.asgi")
    django_wsgi = pytest.importorskip("django.core.handlers.wsgi")
    assert interface_of(django_asgi.ASGIHandler.__new__(django_asgi.ASGIHandler)) == "asgi"
    assert interface_of(django_wsgi.WSGIHandler.__new__(django_wsgi.WSGIHandler)) == "wsgi"


@pytest.mark.parametrize(
    ("app", "expected"), [(asgi, True), (DjangoAsgi(), True), (wsgi, False), (FlaskApp(), False)]
)
def test_coroutine_functions_and_objects_with_an_async_call_are_async(app, expected):
    assert is_async(app) == expected


def test_an_application_with_the_option_for_factories_is_refused_with_a_hint(folder):
    write(folder, "t_no_factory", "async def app(scope, receive, send):\n    pass\n")
    with pytest.raises(StartFailed, match="leave --factory out"):
        loaded(folder, "t_no_factory:app", factory=True)
