"""`read_env_file`: the variables of `--env-file`, which python-dotenv parses."""

from __future__ import annotations

from fdpass.errors import ConfigError


def read_env_file(path: str) -> dict[str, str]:
    """Return the variables in a file, by name. A name without a value is left out.

    Raises:
        ConfigError: The file cannot be read, or python-dotenv is not installed.
    """
    try:
        from dotenv import dotenv_values  # noqa: PLC0415 - few servers need it
    except ImportError as error:
        raise ConfigError("--env-file needs python-dotenv: install it with pip install 'fdpass[serve]'") from error
    try:
        with open(path, encoding="utf-8") as opened:
            found = dotenv_values(stream=opened)
    except OSError as error:
        raise ConfigError(f"--env-file {path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--env-file {path}: is not text in UTF-8") from error
    for name, value in found.items():
        if "\0" in name or "\0" in (value or ""):
            raise ConfigError(f"--env-file {path}: {name!r} has a null character")
    return {name: value for name, value in found.items() if name and value is not None}
