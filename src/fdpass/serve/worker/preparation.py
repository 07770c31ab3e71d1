"""`prepare`: what a worker imports before it serves; ``fdpass serve --check`` imports the same."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from fdpass.errors import StartFailed
from fdpass.serve.shared.config import Config
from fdpass.serve.worker.application import Interface, check_interface, interface_of, load
from fdpass.serve.worker.engines import engine_class


class Prepared(NamedTuple):
    """All that a worker needs to start its engine.

    Attributes:
        app: The application.
        interface: How to call it; never ``auto``.
        loop_factory: Makes the event loop.
    """

    app: Any
    interface: Interface
    loop_factory: Callable[[], asyncio.AbstractEventLoop]


def prepare(config: Config) -> Prepared:
    """Set the variables of ``--env-file``; import the application, its engine and the event loop.

    Raises:
        ConfigError: The file of ``--env-file`` cannot be read.
        StartFailed: The application is not there, or does not fit its interface; or a package is not installed.
        BaseException: What the application raises when Python imports or makes it.
    """
    if config.env_file:
        from fdpass.serve.shared.env_file import read_env_file  # noqa: PLC0415 - few servers need it

        for name, value in read_env_file(config.env_file).items():
            os.environ.setdefault(name, value)
    app = load(config.app, config.app_dir, factory=config.factory)
    interface = config.interface
    if interface == "auto":
        interface = interface_of(app)
    else:
        check_interface(app, interface)
    engine_class(interface)
    return Prepared(app, interface, _loop_factory(config, interface))


def _loop_factory(config: Config, interface: Interface) -> Callable[[], asyncio.AbstractEventLoop]:
    if config.loop == "asyncio" or interface == "listener":  # uvloop accepts in C, so not from a PassedListener
        return asyncio.SelectorEventLoop
    try:
        import uvloop  # noqa: PLC0415 - only where it is wanted and installed
    except ImportError:
        if config.loop == "uvloop":
            raise StartFailed(
                "--loop uvloop: it is not installed: install it with pip install 'fdpass[serve]'"
            ) from None
        return asyncio.SelectorEventLoop
    return uvloop.new_event_loop
