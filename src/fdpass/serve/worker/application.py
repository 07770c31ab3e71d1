"""Imports the application that the user named, tells its interface, and explains why it does not start."""

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
_INTERFACES = {  # by whether the application is async, and how many arguments it requires
    (True, 3): "asgi",
    (False, 3): "asgi",  # a plain decorator often returns the coroutine of the function that it wraps
    (True, 2): "stream",
    (True, 1): "stream",
    (False, 2): "wsgi",
    (False, 1): "blocking",
}
_CALLS: dict[Interface, list[tuple[str, ...]]] = {
    "asgi": [("scope", "receive", "send")],
    "wsgi": [("environ", "start_response")],
    "stream": [("reader", "writer"), ("conn",)],
    "blocking": [("sock",)],
    "listener": [("listener",)],
}
"""For each interface, the arguments with which it calls the application."""

_MOST_SENTENCE, _MOST_DETAILS = 1_000, 15_000  # characters: with 4 bytes each, they fit into one frame (FRAME_MAX)


class StartupFailed(Exception):
    """The application's lifespan reported that it cannot start.

    Attributes:
        details: What the application reported, or its traceback.
    """

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.details = details


def load(name: str, app_dir: str, *, factory: bool) -> Any:
    """Import an application.

    Args:
        name: ``module:name``; the name may have dots.
        app_dir: Folder in which Python looks for modules first.
        factory: The name is that of a function without parameters, which makes the application.

    Raises:
        StartFailed: There is no such module, or no such name in it; or the object cannot be called, or must be a
            factory.
        BaseException: What the module raises when Python imports it, or what the factory raises.
    """
    # Absolute, for a later chdir of the application; and without symlinks, which the next deploy may switch.
    sys.path.insert(0, os.path.realpath(app_dir))
    module_name, _, attributes = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # a module that the application itself imports
        raise StartFailed(
            f"cannot import {name!r}: there is no module {error.name!r} in {app_dir!r} (--app-dir), "
            "nor on Python's path" + _hint(name)
        ) from None
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise StartFailed(f"cannot import {name!r}: module {module_name!r} has no {attributes!r}") from None
    if not callable(found):
        raise StartFailed(f"{name!r} cannot be called: it is an object of type {type(found).__name__}")
    if factory:
        if required_arguments(found) > 0:
            raise StartFailed(f"{name!r} has parameters, and --factory gives it none: leave --factory out")
        return found()
    if required_arguments(found) == 0:
        raise StartFailed(f"{name!r} takes no parameters: if it makes the application, add --factory")
    return found


def _hint(name: str) -> str:
    module, _, attributes = name.partition(":")
    return f"; did you mean {module.removesuffix('.py')}:{attributes}?" if module.endswith(".py") else ""


def interface_of(app: Callable[..., Any]) -> Interface:
    """Tell an application's interface from its parameters, and from whether it is a coroutine function.

    Three parameters: asgi. Two: stream if async, else wsgi. One: listener if the parameter has that name, else
    stream if async, else blocking.

    Raises:
        StartFailed: The application looks like none of these.
    """
    if _first_parameter(app) == "listener" and required_arguments(app) == 1:
        return "listener"
    found = _INTERFACES.get((is_async(app), required_arguments(app)))
    if found is None:
        raise StartFailed(
            "cannot tell the application's interface: it takes neither (scope, receive, send), nor (environ, "
            "start_response), (reader, writer), (conn), (sock) or (listener); say which with --interface"
        )
    return found


def check_interface(app: Callable[..., Any], interface: Interface) -> None:
    """Check that an application can be called by the interface that the settings name.

    Raises:
        StartFailed: It has too few or too many parameters; or it is async, and the interface does not await it.
    """
    if interface in {"wsgi", "blocking"} and is_async(app):
        raise StartFailed(
            f"--interface {interface}: the application is async, and this interface does not await it"
        )
    try:
        # Without the function that a decorator wraps: the decorator can be what adapts it to the interface.
        signature = inspect.signature(app, follow_wrapped=False)
    except (TypeError, ValueError):  # some built-in functions and types have none
        return
    calls = _CALLS[interface]
    if not any(_can_bind(signature, len(call)) for call in calls):
        forms = " or ".join(f"({', '.join(call)})" for call in calls)
        raise StartFailed(f"--interface {interface} calls the application with {forms}, and it takes {signature}")


def _can_bind(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def is_async(app: Callable[..., Any]) -> bool:
    """Whether the application is a coroutine function."""
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None))  # noqa: B004


def _parameters(app: Callable[..., Any]) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(app).parameters.values())
    except (TypeError, ValueError):  # some built-in functions and types have no signature
        return None


def _first_parameter(app: Callable[..., Any]) -> str:
    parameters = _parameters(app)
    return parameters[0].name if parameters else ""


def required_arguments(app: Callable[..., Any]) -> int:
    """How many positional arguments the application requires; -1 if its signature does not tell."""
    parameters = _parameters(app)
    if parameters is None:
        return -1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return -1
    return sum(parameter.kind in kinds and parameter.default is parameter.empty for parameter in parameters)


def explain(error: BaseException) -> dict[str, Any]:
    """Explain why an application did not start.

    Returns:
        ``sentence``: for the operator; ``details``: the application's traceback, or what it reported.
    """
    # A SyntaxError has indented lines with the faulty code before this line; an error's notes come behind it.
    line = next(part for part in traceback.format_exception_only(error) if not part.startswith(" ")).strip()
    found = {"sentence": f"the application failed to start: {_shortened(line, _MOST_SENTENCE)}", "details": ""}
    if isinstance(error, StartFailed | ConfigError):
        return found | {"sentence": str(error)}
    if isinstance(error, StartupFailed):
        return found | {"sentence": str(error), "details": _shortened(error.details, _MOST_DETAILS)}
    return found | {"details": _shortened(traceback_of(error), _MOST_DETAILS)}


def traceback_of(error: BaseException) -> str:
    """The traceback of an error of the application, without the frames of fdpass that called the application."""
    return "".join(traceback.format_exception(type(error), error, _application_traceback(error)))


def _shortened(text: str, most: int) -> str:
    """The start and the end of a text; the report to the dispatcher is one frame of the channel."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} ... {text[-half:]}"


def _application_traceback(error: BaseException) -> Any:
    """The traceback from the application's first frame on: without frames of fdpass and of the import system."""
    ours = (os.path.dirname(fdpass.__file__), os.path.dirname(importlib.__file__), "<frozen importlib")
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(ours):
        trace = trace.tb_next
    return trace
