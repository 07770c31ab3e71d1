"""The name of an application, MODULE:NAME: checked, and corrected in the error if it is a path or a call."""

from __future__ import annotations

import os

from fdpass.errors import ConfigError


def check(app: str) -> None:
    """Check the form of an application's name.

    Raises:
        ConfigError: It has another form. The sentence suggests the right one if it can be told.
    """
    module, _, name = app.partition(":")
    if not (_dotted(module) and _dotted(name)):
        meant = corrected(app)
        raise ConfigError(
            f"{app!r} does not name an application: give MODULE:NAME, such as shop.main:app "
            "(MODULE is a dotted name, not a path)" + (f"; did you mean {meant}?" if meant else "")
        )


def corrected(app: str) -> str:
    """Return the arguments that a user meant by a path, a file name, or a call; empty if that cannot be told.

    ``./main.py:app`` is ``main:app``, ``src/main.py:app`` is ``main:app --app-dir src``, and ``main:make()`` is
    ``main:make --factory``.
    """
    module, _, name = app.partition(":")
    folder, file = os.path.split(module)
    file = file.removesuffix(".py")
    folder = os.path.normpath(folder) if folder else "."
    called = name.endswith("()")
    name = name.removesuffix("()") or (
        "application" if file.endswith(("wsgi", "asgi")) else "app"
    )  # as Django has it
    if not (_dotted(file) and _dotted(name)):
        return ""
    options = (" --factory" if called else "") + ("" if folder == "." else f" --app-dir {folder}")
    return f"{file}:{name}{options}"


def _dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))
