"""`watching`: the process that watches files for ``--reload``, for as long as the server runs."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator

from fdpass._errors import translated
from fdpass.errors import ConfigError
from fdpass.serve.shared.config import Config

_SECONDS = 5.0  # for it to end by itself


def check(config: Config) -> None:
    """Check that files can be watched, if they are to be.

    Raises:
        ConfigError: watchfiles is not installed.
    """
    if config.reload and importlib.util.find_spec("watchfiles") is None:
        raise ConfigError("--reload needs watchfiles: install it with pip install 'fdpass[reload]'")


@contextlib.contextmanager
def watching(config: Config, control: str) -> Iterator[None]:
    """Reload the server at each change of a file until the end of the context; without ``--reload`` do nothing.

    Args:
        config: The settings.
        control: Path of the control socket.

    Raises:
        ConfigError: As `check`.
        CallFailed: The process cannot be started.
    """
    if not config.reload:
        yield
        return
    check(config)
    settings = json.dumps({"config": dataclasses.asdict(config), "control": control})
    command = [sys.executable, "-P", "-m", "fdpass.serve.operator.watch", settings]
    try:
        # In a process group of its own, as workers: Ctrl-C on a terminal reaches the dispatcher alone.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)
    except OSError as error:
        raise translated(error, f"cannot start {sys.executable}") from error
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
