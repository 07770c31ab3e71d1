"""`Upgrades`: the dispatcher's part of an upgrade: it passes requests to the keeper, replies, and quiesces."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from fdpass._supervision.loop import Loop
from fdpass.serve.dispatcher.dispatcher import Dispatcher
from fdpass.serve.keeper.estate import Estate, Head
from fdpass.serve.keeper.requests import NOTICE, QUIESCED
from fdpass.serve.keeper.texts import Text
from fdpass.serve.operator.control import Reply
from fdpass.serve.operator.outcomes import OK, STOPPING, refused

_PATIENCE = 30.0  # seconds for which a quiescing dispatcher waits for reloads and the like, whose clients wait
_PAUSE = 0.02
_PATH_MAX = 500  # characters, and JSON writes some as 6 bytes
_NO_KEEPER = (
    "this server has no keeper, which an upgrade needs: restart the server, with --keeper on; "
    "fdpass reload gives its workers new code"
)
_RUNNING = "another upgrade is in progress: repeat the command when it has ended"
_FORGOTTEN = "the server does not know the outcome of this upgrade any more: its log has the outcome"


class Upgrades:
    """The upgrades, as a dispatcher sees them.

    Args:
        loop: The dispatcher's event loop.
        dispatcher: The dispatcher. Lent.
        estate: Has requests and outcomes; None without a keeper.
        is_busy: Whether clients wait for the outcome of another command.
    """

    def __init__(
        self, loop: Loop, dispatcher: Dispatcher, estate: Estate | None, is_busy: Callable[[], bool]
    ) -> None:
        self._loop = loop
        self._dispatcher = dispatcher
        self._estate = estate
        self._is_busy = is_busy
        self._waiting: list[tuple[int, Reply]] = []
        self._quiescing = False

    def request(self, request: Mapping[str, Any], reply: Reply) -> None:
        """Pass a request to the keeper, once: the client repeats it if this dispatcher dies before it replies.

        Args:
            request: ``number``, a random one that the client has chosen; ``kind``, "dispatcher" or "exec";
                ``python``, the path of an interpreter for "exec", or "".
            reply: Gets OK. The client then asks for the outcome.
        """
        number, kind, python = request.get("number"), request.get("kind"), request.get("python", "")
        if self._estate is None:
            reply(refused(_NO_KEEPER))
        elif type(number) is not int or not 0 < number < 2**63 or str(kind) not in {"dispatcher", "exec"}:
            reply(refused("an upgrade has a number, and is of the kind dispatcher or exec"))
        elif not _is_path(python):
            reply(
                refused(
                    f"the path of the interpreter has at most {_PATH_MAX} characters, all of UTF-8, and no NUL"
                )
            )
        elif self._dispatcher.pool.stopping:
            reply(STOPPING)
        elif number in {self._estate.head[Head.ASKED], self._estate.head[Head.ANSWERED]}:
            reply(OK)
        elif self._is_running(self._estate):
            reply(refused(_RUNNING))
        else:
            asked = {"number": number, "kind": kind, "python": python}
            self._estate.texts.store_json(Text.REQUEST, asked)
            self._estate.head[Head.ASKED] = number
            with contextlib.suppress(
                ProcessLookupError
            ):  # the keeper has just ended: the server stops, or goes on
                os.kill(self._dispatcher.keeper, NOTICE)
            reply(OK)

    @staticmethod
    def _is_running(estate: Estate) -> bool:
        head = estate.head
        return bool(head[Head.UPGRADING]) or head[Head.ASKED] != head[Head.TAKEN]

    def outcome(self, request: Mapping[str, Any], reply: Reply) -> None:
        """Reply with the outcome of an upgrade once the keeper has stored it."""
        if self._estate is None:
            reply(refused(_NO_KEEPER))
            return
        number = request.get("number")
        self._waiting.append((number if type(number) is int else 0, reply))
        self._reply()

    def act(self) -> None:
        """The keeper has changed the estate: reply, or quiesce."""
        self._reply()
        if self._estate is not None and self._estate.head[Head.QUIESCE] and not self._quiescing:
            self._quiescing = True
            self._quiesce(self._estate, time.monotonic() + _PATIENCE)

    def _reply(self) -> None:
        if not self._waiting or self._estate is None:
            return
        head = self._estate.head
        waiting, self._waiting = self._waiting, []
        for number, reply in waiting:
            if number <= 0:
                reply(refused(_FORGOTTEN))
            elif number == head[Head.ANSWERED]:
                reply(self._estate.texts.load_json(Text.OUTCOME))
            elif number in {head[Head.ASKED], head[Head.UPGRADING]}:
                self._waiting.append((number, reply))
            else:
                reply(refused(_FORGOTTEN))

    def _quiesce(self, estate: Estate, until: float) -> None:
        """End this process between two steps, as soon as no client waits. The next dispatcher does the rest."""
        has_keeper = os.getppid() == estate.head[Head.KEEPER]
        if self._dispatcher.pool.stopping or not estate.head[Head.QUIESCE] or not has_keeper:
            self._quiescing = False
        elif self._is_busy() and time.monotonic() < until:
            self._loop.call_later(_PAUSE, lambda: self._quiesce(estate, until))
        else:
            self._dispatcher.save()
            estate.head[Head.QUIESCED] = time.monotonic_ns()
            os._exit(QUIESCED)


def _is_path(python: Any) -> bool:
    if not isinstance(python, str) or len(python) > _PATH_MAX or "\0" in python:
        return False
    with contextlib.suppress(UnicodeEncodeError):
        return bool(python.encode()) or not python
    return False
