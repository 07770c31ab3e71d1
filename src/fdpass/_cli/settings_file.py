"""Settings in TOML files: read for ``--config``, and written by ``--print-config``."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable
from typing import Any

import click

from fdpass._cli.habits import hint_for_name
from fdpass.errors import ConfigError
from fdpass.serve.shared.config import NAMES, SETTINGS, Config, check_name, typed

REPEATABLE = {"addresses", "prefixes", "headers", "texts", "numbers"}
"""Kinds of settings, and of aliases, with several values."""


def read_settings(file: str, *, whole: bool) -> dict[str, Any]:
    """Return the settings in a TOML file, as click takes the defaults of options.

    Args:
        file: Its path.
        whole: Settings may stand at its top level; else only in ``[tool.fdpass]``, as in ``pyproject.toml``.

    Raises:
        click.UsageError: The file cannot be read, or a setting in it is wrong.
    """
    if file.endswith(".py"):
        raise click.UsageError(
            f"{file} is Python, as gunicorn's configuration: write the settings in TOML; the application's "
            "lifespan can do what hooks did"
        )
    try:
        with open(file, "rb") as opened:
            content = tomllib.load(opened)
    except OSError as error:
        raise click.UsageError(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file} is not TOML: {error}") from error
    except ValueError as error:
        raise click.UsageError(f"{file} has a number with too many digits") from error
    except RecursionError as error:
        raise click.UsageError(f"{file} has too many arrays or tables within each other") from error
    table = _table(file, content, whole=whole)
    found = {name.replace("-", "_"): value for name, value in table.items()}
    _refuse_settings_of_others(file, found)
    try:
        for name, value in found.items():
            check_name(name)
            typed(name, value)  # click would accept a number as text, and true as a number
    except ConfigError as error:
        raise click.UsageError(f"{file}: {error}") from error
    for name, value in found.items():
        if SETTINGS[name].kind in REPEATABLE and isinstance(value, str):
            found[name] = [value]
    return found


def _refuse_settings_of_others(file: str, names: Iterable[str]) -> None:
    """Say what to use instead of each setting of uvicorn or gunicorn that is none of ours.

    Raises:
        click.UsageError: There is one.
    """
    others = {name: hint for name in names if name not in NAMES and (hint := hint_for_name(name))}
    if others:
        raise click.UsageError(
            "\n".join(f"{file}: there is no setting {name!r}: {hint}" for name, hint in others.items())
        )


def _table(file: str, content: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """Return the settings: the table ``[tool.fdpass]``, or without it the top level of the file.

    Raises:
        click.UsageError: A setting stands where it would have no effect.
    """
    is_project = os.path.basename(file) == "pyproject.toml"
    tool = content.get("tool")
    table = (tool if isinstance(tool, dict) else {}).get("fdpass")
    if table is None:
        if whole and is_project:
            raise click.UsageError(f"{file} has no table [tool.fdpass]: write the settings in it")
        return content if whole else {}
    if not isinstance(table, dict):
        raise click.UsageError(f"{file}: tool.fdpass is not a table")
    for name, value in content.items():
        if isinstance(value, dict):  # the table of another program
            continue
        if not is_project or name.replace("-", "_") in NAMES:
            raise click.UsageError(
                f"{file}: {name!r} has no effect outside of the table [tool.fdpass]: write it below that line"
            )
    return table


def as_toml(config: Config) -> str:
    """Write all settings as a file that `read_settings` reads."""
    return "\n".join(f"{name.replace('_', '-')} = {_toml(getattr(config, name))}" for name in SETTINGS)


def _toml(value: Any) -> str:
    # A string of JSON is one of TOML, but for DEL: https://toml.io/en/v1.0.0#string
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False).replace(
        "\x7f", "\\u007f"
    )
