"""A *template*: a process that has read the code on disk anew, and of which the keeper has dispatchers made.

The keeper itself has the code with which it was started. A template is a clone of it that imports fdpass again.
It has the same table of descriptors, as a dispatcher that it makes needs them; so while it reads code, its open
files are in the table, and no new dispatcher may close what no word of the estate names. Once it is ready, it has
nothing open, and waits.

A template's dispatcher is the keeper's child. It begins when the keeper has allowed it, and so knows its process
number: else the keeper could make another one, after a template that has died in between.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import NoReturn

from fdpass.serve.keeper.clone import clone, signal_at_parents_death
from fdpass.serve.keeper.estate import Estate, Head
from fdpass.serve.keeper.life import end, end_with_traceback, in_one_line, live
from fdpass.serve.keeper.requests import NOTICE
from fdpass.serve.keeper.texts import Text
from fdpass.serve.shared import roles

Life = Callable[[], None]
Renew = Callable[[], tuple[Life, str]]
"""Reads the code on disk, and checks what can be checked. Returns a dispatcher's life, and the code's version."""

PATIENCE = 5.0
"""Seconds within which a template has to make a dispatcher, and the keeper has to allow it."""

_PID_BITS = 32


_BEFORE: list[dict[str, ModuleType]] = []


def import_anew(name: str) -> ModuleType:
    """Import a module of fdpass, and all that it imports of fdpass, from what is on disk now.

    The modules of before stay in memory: what they own is not finalised.
    """
    ours = {each: module for each, module in sys.modules.items() if f"{each}.".startswith("fdpass.")}
    _BEFORE.append(ours)
    for each in ours:
        del sys.modules[each]
    importlib.invalidate_caches()
    return importlib.import_module(name)


def start(estate: Estate, renew: Renew) -> int:
    """Make a template. It stores its process number in TEMPLATE once it is ready, and sends NOTICE.

    Returns:
        The process number. If the process ends, `Text.REASON` can have the reason.
    """
    head = estate.head
    head[Head.TEMPLATE] = 0
    estate.texts[Text.REASON] = ""
    gc.collect()
    gc.freeze()  # so that no object of the keeper is finalised there
    return clone() or _be_template(estate, renew)


def _be_template(estate: Estate, renew: Renew) -> NoReturn:
    head = estate.head
    signal_at_parents_death(signal.SIGKILL)
    roles.take("template")
    try:
        if os.getppid() != head[Head.KEEPER]:
            end(0)
        life, version = renew()
        _check_threads()
        estate.texts[Text.REASON] = version
        gc.collect()
        gc.freeze()
        head[Head.TEMPLATE] = os.getpid()
        os.kill(head[Head.KEEPER], NOTICE)
        while True:
            if signal.sigwaitinfo({NOTICE}).si_pid != head[Head.KEEPER]:
                continue
            making = head[Head.MAKING]
            if clone(sibling=True) == 0:
                _await_permission(estate, making)
                live(life, estate)
    except BaseException as error:  # noqa: BLE001 - whatever the new code raises; as in `live`
        estate.texts[Text.REASON] = in_one_line(error)
        end_with_traceback()


def _check_threads() -> None:
    if len(os.listdir("/proc/self/task")) != 1:
        raise RuntimeError("it starts a thread when it is imported, and no process with threads can be cloned")


def _await_permission(estate: Estate, making: int) -> None:
    """In a new dispatcher: wait until the keeper allows it to begin, or end."""
    head, until = estate.head, time.monotonic() + PATIENCE
    head[Head.MADE] = making << _PID_BITS | os.getpid()
    os.kill(head[Head.KEEPER], NOTICE)
    while head[Head.ALLOWED] != os.getpid():
        if time.monotonic() > until or os.getppid() != head[Head.KEEPER]:
            end(0)
        signal.sigtimedwait({NOTICE}, 0.1)


def dispatcher_of(template: int, estate: Estate, ended: Callable[[int], bool]) -> int:
    """Let a template make a dispatcher.

    Args:
        template: The template's process number.
        estate: Has the words for it.
        ended: Reaps children, and returns whether this one has ended.

    Returns:
        The process number of the dispatcher; 0 if the template has ended, or does not answer.
    """
    head, until = estate.head, time.monotonic() + PATIENCE
    head[Head.ALLOWED] = 0
    head[Head.MAKING] += 1
    os.kill(template, NOTICE)
    while not ended(template) and time.monotonic() < until:
        making, pid = divmod(head[Head.MADE], 1 << _PID_BITS)
        if making == head[Head.MAKING]:
            head[Head.ALLOWED] = pid
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                os.kill(pid, NOTICE)
            return pid
        signal.sigtimedwait({NOTICE, signal.SIGCHLD}, 0.1)
    return 0
