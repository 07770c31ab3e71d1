"""Find the application that the user named, and how it wants to be called."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import fdpass
from fdpass.errors import ConfigError, StartFailed

Interface = str
_BY_COUNT = {
    (True, 3): "asgi",
    (False, 3): "asgi",  # many a decorator returns the coroutine of what it wraps
    (True, 2): "stream",
    (True, 1): "stream",
    (False, 2): "wsgi",
    (False, 1): "blocking",
}


class StartupFailed(Exception):
    """The application said that it cannot start.

    Attributes:
        details: What it logged.
    """

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.details = details


def load(name: str, app_dir: str, *, factory: bool) -> Any:
    """Import an application.

    Args:
        name: ``module:name``; the name may have dots.
        app_dir: Folder that comes first where modules are looked for.
        factory: The name is that of a function without parameters, which makes the application.

    Raises:
        StartFailed: There is no such module, or no such name in it, or it is no factory.
        BaseException: Whatever the module raises when it is imported, or the factory.
    """
    sys.path.insert(0, app_dir)
    module_name, _, attributes = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # a module that the application itself wants
        raise StartFailed(
            f"cannot import {name!r}: there is no module {error.name!r} in {app_dir!r} (--app-dir), "
            "nor on Python's path"
        ) from None
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise StartFailed(f"cannot import {name!r}: module {module_name!r} has no {attributes!r}") from None
    if not callable(found):
        raise StartFailed(f"{name!r} is a {type(found).__name__}, and cannot be called")
    if factory:
        return found()
    if positional(found) == 0:
        raise StartFailed(f"{name!r} takes no parameters: if it makes the application, add --factory")
    return found


def interface_of(app: Callable[..., Any]) -> Interface:
    """How an application wants to be called, by its parameters and by whether it is a coroutine function.

    Three parameters: asgi. Two: stream if async, else wsgi. One: listener if it has that name, else stream if
    async, else blocking.

    Raises:
        StartFailed: It looks like none of these.
    """
    if _first(app) == "listener" and positional(app) == 1:
        return "listener"
    found = _BY_COUNT.get((is_async(app), positional(app)))
    if found is None:
        raise StartFailed(
            "cannot tell the application's interface: it takes neither (scope, receive, send), nor (environ, "
            "start_response), (reader, writer), (conn), (sock) or (listener); say which with --interface"
        )
    return found


def is_async(app: Callable[..., Any]) -> bool:
    """Whether calling it makes a coroutine."""
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None))  # noqa: B004


def _parameters(app: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(app).parameters.values())
    except (TypeError, ValueError):
        return []


def _first(app: Callable[..., Any]) -> str:
    return next((parameter.name for parameter in _parameters(app)), "")


def positional(app: Callable[..., Any]) -> int:
    """How many positional arguments it must be given; -1 if nothing tells."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return -1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return -1
    return sum(parameter.kind in kinds and parameter.default is parameter.empty for parameter in parameters)


def explained(error: BaseException) -> dict[str, Any]:
    """Why an application did not start.

    Returns:
        ``sentence``: for the operator; ``details``: the application's traceback, or what it logged; ``final``:
        True if trying again cannot help.
    """
    # Before it, indented, stands the line of a SyntaxError; behind it, its notes.
    said = next(line for line in traceback.format_exception_only(error) if not line.startswith(" ")).strip()
    told = {"sentence": f"the application failed to start: {said}", "details": "", "final": False}
    if isinstance(error, StartFailed | ConfigError):
        return told | {"sentence": str(error), "final": True}
    if isinstance(error, StartupFailed):
        return told | {"sentence": str(error), "details": error.details}
    return told | {"details": "".join(traceback.format_exception(type(error), error, _theirs(error)))}


def _theirs(error: BaseException) -> Any:
    """The traceback without the frames of ours, and of the import system, above the application's first."""
    ours = (os.path.dirname(fdpass.__file__), os.path.dirname(importlib.__file__), "<frozen importlib")
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(ours):
        trace = trace.tb_next
    return trace
