"""The name of an application: what is refused, and what the error suggests."""

import pytest

from fdpass.errors import ConfigError
from fdpass.serve.shared import app_name


@pytest.mark.parametrize("app", ["main:app", "shop.main:app", "shop.main:App.asgi", "main.py:app"])
def test_a_dotted_name_on_both_sides_is_an_application(app):
    """``main.py`` can be a package with a module ``py``: only its import tells."""
    app_name.check(app)


@pytest.mark.parametrize(
    ("app", "meant"),
    [
        ("./main.py:app", "main:app"),
        ("main.py", "main:app"),
        ("main", "main:app"),
        ("main:", "main:app"),
        ("mysite.wsgi", "mysite.wsgi:application"),
        ("mysite/asgi.py", "asgi:application --app-dir mysite"),
        ("src/shop/main.py:make", "main:make --app-dir src/shop"),
        ("/srv/main.py", "main:app --app-dir /srv"),
        ("main:create_app()", "main:create_app --factory"),
        ("main.py:create_app()", "main:create_app --factory"),
        ("src/main:create_app()", "main:create_app --factory --app-dir src"),
        (":app", ""),
        ("main:make('x')", ""),
        ("main:app:x", ""),
        ("my-app:app", ""),
        ("", ""),
    ],
)
def test_a_path_or_a_call_is_refused_with_the_form_that_was_meant(app, meant):
    with pytest.raises(ConfigError, match="give MODULE:NAME") as caught:
        app_name.check(app)
    assert app_name.corrected(app) == meant
    assert str(caught.value).endswith(f"; did you mean {meant}?" if meant else "not a path)")
