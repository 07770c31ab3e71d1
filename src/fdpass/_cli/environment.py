"""The environment of ``fdpass serve``: variables with defaults, those of --env-file, those without an effect."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import click

_PORT = 8000
_MOST_DIGITS = 20
_DASHBOARD = ("BIND", "AGENT_CHECK", "CAPACITY", "ALLOW_ACTIONS", "TOKEN")
_OTHERS = {  # of other options, and of other commands
    *("FDPASS_CONFIG", "FDPASS_MESSAGE", "FDPASS_KEEP_CONTROL"),
    *(f"FDPASS_DASHBOARD_{name}" for name in _DASHBOARD),
}
_LIKENESS = 0.8  # from which on a name is taken for a misspelt one: see difflib


def add_defaults(params: dict[str, Any]) -> None:
    """Give settings that have no value those of WEB_CONCURRENCY, PORT and FORWARDED_ALLOW_IPS, or of the terminal.

    Raises:
        click.UsageError: A variable has a value that is not allowed.
    """
    if params.get("workers") is None and (text := os.environ.get("WEB_CONCURRENCY")):
        params["workers"] = _number("WEB_CONCURRENCY", text, "a number of workers")
    if params.get("workers") is None and params.get("reload"):
        params["workers"] = 1  # as of uvicorn: what a worker keeps in its memory is there at the next request
    if params.get("access_log") is None and os.isatty(1):
        params["access_log"] = "-"
    if not params.get("bind") and os.environ.get("PORT"):
        params["bind"] = (f"0.0.0.0:{port()}",)
    if params.get("forwarded_allow_ips") is None and (text := os.environ.get("FORWARDED_ALLOW_IPS")):
        params["forwarded_allow_ips"] = text


def port() -> int:
    """The port to listen at if no option gives one: that of PORT, else 8000.

    Raises:
        click.UsageError: PORT is no number.
    """
    text = os.environ.get("PORT")
    return _number("PORT", text, "a port") if text else _PORT


def _number(name: str, text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        raise click.UsageError(f"{name}={text!r} in the environment is not {what}")
    return int(text)


@contextlib.contextmanager
def added(variables: Mapping[str, str]) -> Iterator[None]:
    """Have these variables in the environment, but for those that are set, until the end of the context."""
    new = variables.keys() - os.environ.keys()
    os.environ.update({name: variables[name] for name in new})
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


def misspelt(
    variables: Mapping[str, str], place: str, names: Collection[str], aliases: Mapping[str, Iterable[str]]
) -> Iterator[str]:
    """Write a sentence about each variable that begins with ``FDPASS_``, is no setting's, and looks like one.

    Args:
        variables: The variables.
        place: Where they are set, for the sentence.
        names: The settings.
        aliases: For each setting, the options that are other names of it.
    """
    meant = {_variable(name): name for name in names}
    also = {_variable(option.strip("-")): name for name, found in aliases.items() for option in found}
    for variable, value in sorted(variables.items()):
        if not variable.startswith("FDPASS_") or variable in meant or variable in _OTHERS:
            continue
        if value.startswith("tcp://"):  # of Kubernetes, for a service that is called fdpass
            continue
        import difflib  # noqa: PLC0415 - large, and few need it

        known = [*names, *(other.removeprefix("FDPASS_").lower() for other in _OTHERS)]
        given = variable.removeprefix("FDPASS_").lower()
        # Some options of a dashboard have the variable of the server, or get the server's value.
        general = given.removeprefix("dashboard_")
        near = [general] if general in names else difflib.get_close_matches(given, known, 1, _LIKENESS)
        if near or variable in also:
            name = near[0] if near else also[variable]
            yield f"{variable} in {place} has no effect: did you mean {_variable(name)}?"


def of_others(variables: Mapping[str, str], place: str, is_known: Callable[[str], bool]) -> Iterator[str]:
    """Write a sentence about the variables with which uvicorn and gunicorn are configured, if there are any.

    Args:
        variables: The variables.
        place: Where they are set, for the sentence.
        is_known: Whether this is the name of a setting of uvicorn.
    """
    found = [
        name
        for name, value in sorted(variables.items())
        if name == "GUNICORN_CMD_ARGS"
        or (
            (name.startswith("UVICORN_") and is_known(name.removeprefix("UVICORN_").lower()))
            and not value.startswith("tcp://")
        )  # of Kubernetes, for a service that is called uvicorn
    ]
    if found:
        verb = "has" if len(found) == 1 else "have"
        yield (
            f"{', '.join(found)} in {place} {verb} no effect: write the settings as options of fdpass serve, "
            "or as variables such as FDPASS_WORKERS"
        )


def _variable(name: str) -> str:
    return f"FDPASS_{name.replace('-', '_').upper()}"
