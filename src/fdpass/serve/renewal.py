"""How code of another version goes on with a running server: `prepared` in a template, `go_on` after an exec."""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import fdpass
from fdpass._fd import Fd
from fdpass._memory import mapped
from fdpass._sockets import identity_of, unlink_own
from fdpass._supervision.notifier import Notifier
from fdpass.errors import ConfigError
from fdpass.serve.dispatcher import limits
from fdpass.serve.dispatcher.listeners import Listening
from fdpass.serve.dispatcher.pool.generation import stored_logs
from fdpass.serve.keeper.estate import VERSION, Estate, Head
from fdpass.serve.keeper.texts import Text
from fdpass.serve.kept import Kept
from fdpass.serve.operator import files
from fdpass.serve.operator.folder import Folder
from fdpass.serve.operator.reloads import with_fixed
from fdpass.serve.shared import tls
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.logs import read_config
from fdpass.serve.shared.source import Source


def prepared(known: Mapping[str, Any], buffer: mmap.mmap, memory: int) -> tuple[Callable[[], None], str]:
    """Check in a template, after which nothing may be open, whether dispatchers can be made of this code.

    Args:
        known: What the code of before has handed over; see `Kept`.
        buffer: The estate.
        memory: Its descriptor.

    Returns:
        A dispatcher's life, and the version of this code.

    Raises:
        ConfigError: The settings are not allowed, or the estate has another layout.
    """
    _check_layout(known)
    config = Config.of(known["settings"])
    source = Source(*known["source"]) if known["source"] else None
    folder = Folder(known["folder"])
    estate = Estate(buffer)
    with folder.entered():
        _check(source.read() if source else config, known)

    def live() -> None:
        kept = Kept(
            config,
            source.read if source else lambda: config,
            _listeners(known["listeners"], estate),
            socket.socket(fileno=estate.take_fd(Head.CONTROL)),
            known["path"],
            Notifier.found(known["notifier"]),
            known["capacity"],
            estate.most,
            signals=frozenset(known["signals"]),
            mask=frozenset(known["mask"]),
            environ=known["environ"],
            source=source,
            folder=folder,
        )
        keeper = kept.keeper(estate, buffer, memory)
        keeper.own = set(known["own"])
        kept.dispatch(estate, keeper)

    return live, fdpass.__version__


def go_on(
    config: Config,
    reread: Callable[[], Config],
    source: Source | None,
    known: Mapping[str, Any],
    environ: Mapping[str, str],
) -> None:
    """After an exec, serve with what the keeper has handed over. In another process, check whether that works.

    Args:
        config: The settings, as they are now.
        reread: Makes them again.
        source: The same, for code of another version.
        known: What the keeper has handed over; see `Kept`, and `Program`.
        environ: The environment with which this process was started.

    Raises:
        ConfigError: The settings are not allowed, or the estate has another layout.
        StartFailed: No dispatcher came to serve.
    """
    _check_layout(known)
    with contextlib.ExitStack() as held:
        memory = Fd(known["estate"])
        buffer = mapped(memory)
        estate = Estate(buffer)
        running = Config.of(known["settings"])
        if known["check"]:
            _end_check(config, known, estate)
        config = with_fixed(config, running, "upgrade")
        held.callback(memory.close)
        foreign = stored_logs(estate) | set(known["unnamed"])
        for number in (*estate.named(), *foreign, memory.fileno()):
            os.set_inheritable(number, False)
        capacity = limits.raise_descriptor_limit()
        notifier = Notifier.from_environment()
        held.callback(notifier.close)
        listeners = _listeners(known["listeners"], estate)
        for listener in filter(None, listeners):
            held.callback(listener.close)
        held.enter_context(files.pidfile(config.pidfile))
        control = socket.socket(fileno=estate.take_fd(Head.CONTROL))
        held.callback(unlink_own, control, identity_of(control.getsockname()))
        kept = Kept(
            config,
            reread,
            listeners,
            control,
            known["path"],
            notifier,
            capacity,
            estate.most,
            signals=frozenset(known["signals"]),
            mask=frozenset(known["mask"]),
            environ=environ,
            source=source,
            folder=Folder(known["folder"]),
        )
        kept.keep(estate, buffer, memory.fileno(), foreign)


def _check_layout(known: Mapping[str, Any]) -> None:
    if known["layout"] != VERSION:
        raise ConfigError(
            f"the estate of the running server has layout {known['layout']}, but fdpass {fdpass.__version__} has "
            f"layout {VERSION}: restart the server"
        )


def _check(config: Config, known: Mapping[str, Any]) -> None:
    """Check the settings that a reload would use, and those of the generations that serve."""
    tls.context(config)
    if config.log_config:
        read_config(config.log_config)
    for stored in known["generations"] or ():
        if stored:
            Config.of(stored["config"])


def _end_check(config: Config, known: Mapping[str, Any], estate: Estate) -> NoReturn:
    """In a process of its own, which imports all that the workers will import."""
    from fdpass.serve.worker import application, preparation  # noqa: PLC0415 - the keeper imports none of it

    _check(config, known)
    try:
        preparation.prepare(config)
    except Exception as error:
        raise ConfigError(application.explain(error)["sentence"]) from error
    estate.texts[Text.REASON] = fdpass.__version__
    os._exit(0)


def _listeners(known: Iterable[Mapping[str, Any] | None], estate: Estate) -> list[Listening | None]:
    """The listeners that the estate names; None for those that are closed."""
    found: list[Listening | None] = []
    for index, each in enumerate(known):
        number = estate.take_fd(Head.LISTENER + index)
        if number < 0 or each is None:
            found.append(None)
            continue
        sock = socket.socket(fileno=number)
        sock.setblocking(False)
        file = identity_of(sock.getsockname()) if each["file"] else None
        found.append(Listening(sock, each["name"], file, adopted=each["adopted"]))
    return found
