"""`run`: a whole server. It acquires resources of the machine in order, and releases them in reverse."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from fdpass._activation import Inherited, inherited
from fdpass._sockets import address_of, identity_of, unlink_own
from fdpass._supervision.loop import Loop
from fdpass._supervision.notifier import Notifier
from fdpass.errors import AddressInUse, ConfigError
from fdpass.serve import kept
from fdpass.serve.dispatcher import limits
from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.dispatcher import Dispatcher
from fdpass.serve.dispatcher.listeners import Listening, check_address, listen_at
from fdpass.serve.keeper.estate import Estate
from fdpass.serve.keeper.program import handed_over
from fdpass.serve.operator import (
    client,
    control,
    dashboard,
    files,
    privileges,
    servers,
    signals,
    takeover,
    watcher,
)
from fdpass.serve.operator.beginning import announce
from fdpass.serve.operator.events import Events
from fdpass.serve.operator.folder import Folder
from fdpass.serve.operator.operations import Operations
from fdpass.serve.operator.outcomes import Outcomes
from fdpass.serve.renewal import go_on
from fdpass.serve.shared import roles, tls
from fdpass.serve.shared.config import WELCOME, Config
from fdpass.serve.shared.events import Event, about
from fdpass.serve.shared.logs import add_tail, configure, read_config, remove_tail
from fdpass.serve.shared.source import Source

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
    watcher.check(config)
    privileges.identity(config)
    dashboard.check(config.dashboard)
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


def serve(config: Config, reread: Callable[[], Config], source: Source | None = None) -> None:
    """Serve as `run` does.

    Args:
        config: The settings.
        reread: Makes the settings again, for a reload, which fails if this raises ConfigError.
        source: The same, for code of another version; None if the settings do not change.
    """
    known = handed_over()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LISTEN_")}
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("a server must run in the main thread, where Python handles signals")
    configure(config.log_level, as_json=config.log_json, file=config.log_config)
    if known is not None:
        go_on(config, reread, source, known, environ)
        return
    with contextlib.ExitStack() as held:
        capacity = limits.raise_descriptor_limit()
        most = limits.most_connections(config, capacity)
        identity = privileges.identity(config)
        dashboard.check(config.dashboard)
        tls.context(config)
        notifier = Notifier.from_environment()
        held.callback(notifier.close)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        release_signals = signals.hold()
        held.callback(release_signals)
        activated = inherited()
        binds = _binds(config, activated)
        if activated:  # which can be given only once
            listeners = listen_at(binds, config.backlog, activated)
        else:
            listeners = takeover.listen_after(
                config.control or client.default_path(), lambda: listen_at(binds, config.backlog)
            )
        for listening in listeners:
            held.callback(listening.close)
        roles.take("server")
        control_sock, path = _control(config, listeners)
        held.callback(unlink_own, control_sock, identity_of(control_sock.getsockname()))
        held.enter_context(files.pidfile(config.pidfile))
        if not (why_not := kept.refusal(config, listeners)):
            access_log = AccessLog(config.access_log, config.access_log_format)
            held.callback(access_log.close)
            if identity is not None:
                privileges.become(*identity, [*_files(config, listeners), path])
            held.enter_context(watcher.watching(config, path))
            kept.Kept(
                config,
                reread,
                [*listeners],
                control_sock,
                path,
                notifier,
                capacity,
                most,
                signals=signals.handled(),
                mask=frozenset(mask),
                environ=environ,
                source=source,
                folder=Folder(),
            ).run(access_log)
            return
        if config.keeper == "on":
            log.warning("there is no keeper: %s", why_not)
        loop = Loop()
        held.callback(loop.close)
        events = Events(loop)
        add_tail(events)
        held.callback(remove_tail, events)
        access_log = AccessLog(config.access_log, config.access_log_format)
        held.callback(access_log.close)
        outcomes = Outcomes(notifier, [each.name for each in listeners])
        dispatcher = Dispatcher(
            loop,
            config,
            listeners,
            capacity=capacity,
            estate=Estate.private(most),
            access_log=access_log,
            workers_changed=outcomes.settled,
        )
        held.callback(dispatcher.close)
        operations = Operations(loop, dispatcher, reread=reread, outcomes=outcomes, notifier=notifier)
        release_signals()
        server = control.ControlServer(loop, path, operations.commands(listeners, events, path), control_sock)
        held.callback(server.close)
        if identity is not None:
            privileges.become(*identity, [*_files(config, listeners), server.path])
        if config.dashboard:
            held.callback(dashboard.Dashboard(loop, config, path).close)
        held.enter_context(watcher.watching(config, path))
        announce(config, listeners)
        dispatcher.run()
    log.info("the server has stopped", extra=about(Event.SERVER_STOPPED))


def _control(config: Config, listeners: list[Listening]) -> tuple[socket.socket, str]:
    """Open the control socket: at its path, or at a default path that is free. Returns its absolute path, too."""
    if config.control:
        return control.bound(config.control), os.path.abspath(config.control)
    addresses = [each.name for each in listeners]
    path = servers.free_path(addresses)
    try:
        return control.bound(path), path
    except AddressInUse:
        if (other := servers.free_path(addresses)) == path:
            raise
        return control.bound(other), other  # another server was faster


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
