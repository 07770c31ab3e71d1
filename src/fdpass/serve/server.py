"""`run`: a whole server; what it takes from the machine, in order, and gives back in reverse."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import fdpass
from fdpass._activation import Inherited, inherited
from fdpass.errors import ConfigError
from fdpass.serve.dispatcher import limits
from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.dispatcher import Dispatcher
from fdpass.serve.dispatcher.listeners import Listening, check_address, listen_at
from fdpass.serve.dispatcher.loop import Loop
from fdpass.serve.operator import client, files, privileges
from fdpass.serve.operator.control import ControlServer
from fdpass.serve.operator.operations import Operations
from fdpass.serve.operator.outcomes import Outcomes
from fdpass.serve.operator.systemd import Notifier
from fdpass.serve.shared import tls
from fdpass.serve.shared.config import WELCOME, Config
from fdpass.serve.shared.logs import configure

log = logging.getLogger("fdpass.serve")


def run(app: str = WELCOME, **options: Any) -> None:
    """Serve an application until the process gets SIGTERM or SIGINT. In the main thread.

    Args:
        app: ``module:name``. Workers are new processes, so it is a name and no object.
        **options: See `Config`.

    Raises:
        ConfigError: A setting is not what it can be, or does not fit.
        AddressInUse: Somebody listens there already.
        StartFailed: No worker became ready.
        CallFailed: A system call failed.
    """
    config = Config.of({"app": app, **options})
    serve(config, lambda: config)


def check(config: Config) -> None:
    """What of the settings can be known to be wrong before anything is started.

    Raises:
        ConfigError: It is.
    """
    for bind in config.bind:
        check_address(bind)
    tls.context(config)
    privileges.identity(config)
    limits.most_connections(config, limits.raise_descriptor_limit())


def serve(config: Config, reread: Callable[[], Config]) -> None:
    """As `run`.

    Args:
        config: The settings.
        reread: Makes them anew, for a reload. It may raise ConfigError: then the reload fails.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("a server runs in the main thread, for signals come there")
    configure(config.log_level, as_json=config.log_json)
    with contextlib.ExitStack() as held:
        capacity = limits.raise_descriptor_limit()
        most = limits.most_connections(config, capacity)
        identity = privileges.identity(config)
        tls.context(config)
        notifier = Notifier.from_environment()
        held.callback(notifier.close)
        loop = Loop()
        held.callback(loop.close)
        activated = inherited()
        listeners = listen_at(_binds(config, activated), config.backlog, activated)
        for listening in listeners:
            held.callback(listening.close)
        held.enter_context(files.pidfile(config.pidfile))
        access_log = AccessLog(config.access_log)
        held.callback(access_log.close)
        outcomes = Outcomes(notifier)
        dispatcher = Dispatcher(
            loop,
            config,
            listeners,
            capacity=capacity,
            most=most,
            access_log=access_log,
            workers_changed=outcomes.settled,
        )
        held.callback(dispatcher.close)
        operations = Operations(loop, dispatcher, reread=reread, outcomes=outcomes, notifier=notifier)
        acts = operations.acts(listeners)
        controls = ControlServer(loop, config.control or client.default_path(), acts)
        held.callback(controls.close)
        if identity is not None:
            privileges.become(*identity, [*_own(config, listeners), controls.path])
        log.info(
            "fdpass %s serves %s at %s",
            fdpass.__version__,
            config.app,
            ", ".join(each.name for each in listeners),
        )
        dispatcher.run()
    log.info("stopped")


def _binds(config: Config, activated: Sequence[Inherited]) -> tuple[str, ...]:
    """Where to bind: nowhere, if sockets were given by activation and no address was asked for."""
    default = Config.__dataclass_fields__["bind"].default
    return () if activated and config.bind is default else config.bind


def _own(config: Config, listeners: list[Listening]) -> list[str]:
    files = [each.file.path for each in listeners if each.file is not None]
    files += [
        path for path in (config.pidfile, config.access_log) if path and path != "-" and os.path.isfile(path)
    ]
    return files
