"""`run`: a whole server. It acquires resources of the machine in order, and releases them in reverse."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import fdpass
from fdpass._activation import Inherited, inherited
from fdpass._sockets import address_of
from fdpass._supervision.loop import Loop
from fdpass._supervision.notifier import Notifier
from fdpass._words import counted
from fdpass.errors import ConfigError
from fdpass.serve.dispatcher import limits
from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.dispatcher import Dispatcher
from fdpass.serve.dispatcher.listeners import Listening, check_address, listen_at
from fdpass.serve.operator import client, files, privileges, signals
from fdpass.serve.operator.control import ControlServer
from fdpass.serve.operator.operations import Operations
from fdpass.serve.operator.outcomes import Outcomes
from fdpass.serve.shared import tls
from fdpass.serve.shared.config import WELCOME, Config
from fdpass.serve.shared.logs import configure, read_config

log = logging.getLogger("fdpass.serve")


def run(app: str = WELCOME, **options: Any) -> None:
    """Serve an application until the process gets SIGTERM, SIGINT or SIGQUIT. Call it in the main thread.

    Args:
        app: ``module:name``: a name and not an object, because workers are new processes.
        **options: The settings: see `Config`.

    Raises:
        ConfigError: A setting is wrong, or does not fit this machine.
        AddressInUse: Another socket listens at the address.
        StartFailed: No worker became ready.
        CallFailed: A system call failed.
    """
    config = Config.of({"app": app, **options})
    serve(config, lambda: config)


def check(config: Config) -> None:
    """Check what can be checked of the settings without starting anything, or leaving anything behind.

    Addresses are not bound: a server that runs with these settings may have them.

    Raises:
        ConfigError: A setting is wrong.
        CallFailed: A file could not be written.
    """
    for bind in config.bind:
        check_address(bind)
    tls.context(config)
    if config.log_config:
        read_config(config.log_config)
    privileges.identity(config)
    limits.most_connections(config, limits.raise_descriptor_limit())
    if config.access_log not in {"", "-"}:
        files.check_writable(config.access_log, "the access log")
    address_of(config.control or client.default_path())
    if os.path.exists(config.pidfile):
        files.check_writable(config.pidfile, "the pidfile")
    runtime = [("the pidfile", config.pidfile), ("the control socket", config.control or client.default_path())]
    runtime += [("the socket", bind[5:]) for bind in config.bind if bind.startswith("unix:")]
    for purpose, path in runtime:
        # A folder that does not exist may be made for the start, as RuntimeDirectory= of systemd is.
        if path and not path.startswith("@") and os.path.exists(os.path.dirname(path) or "."):
            files.check_folder(path, purpose)


def serve(config: Config, reread: Callable[[], Config]) -> None:
    """Serve as `run` does.

    Args:
        config: The settings.
        reread: Makes the settings again, for a reload, which fails if this raises ConfigError.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("a server must run in the main thread, where Python handles signals")
    configure(config.log_level, as_json=config.log_json, file=config.log_config)
    with contextlib.ExitStack() as held:
        capacity = limits.raise_descriptor_limit()
        most = limits.most_connections(config, capacity)
        identity = privileges.identity(config)
        tls.context(config)
        notifier = Notifier.from_environment()
        held.callback(notifier.close)
        loop = Loop()
        held.callback(loop.close)
        release_signals = signals.hold()
        held.callback(release_signals)
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
        release_signals()
        path = config.control or client.default_path()
        control = ControlServer(loop, path, operations.commands(listeners))
        held.callback(control.close)
        if identity is not None:
            privileges.become(*identity, [*_files(config, listeners), control.path])
        log.info(
            "fdpass %s listens at %s, and starts %s for %s",
            fdpass.__version__,
            ", ".join(each.name for each in listeners),
            counted(config.workers + config.spare, "worker"),
            config.app,
        )
        dispatcher.run()
    log.info("the server has stopped")


def _binds(config: Config, activated: Sequence[Inherited]) -> tuple[str, ...]:
    """Return the addresses to bind: none if there are activated sockets and the address is the default."""
    default = Config.__dataclass_fields__["bind"].default
    return () if activated and config.bind is default else config.bind


def _files(config: Config, listeners: list[Listening]) -> list[str]:
    """Return the paths of the files to give to the user that the server switches to."""
    paths = [each.file.path for each in listeners if each.file is not None]
    paths += [
        path for path in (config.pidfile, config.access_log) if path and path != "-" and os.path.isfile(path)
    ]
    return paths
