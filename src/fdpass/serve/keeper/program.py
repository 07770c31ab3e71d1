"""`Program`: how the keeper's program is run again, by exec or for a check, with all that the server has."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from fdpass._memory import common
from fdpass.errors import ConfigError
from fdpass.serve.keeper.estate import Estate, Head

_VARIABLE = "FDPASS_HANDED_OVER"
_OUTPUT_SIZE = 65536


@dataclass(frozen=True, slots=True)
class Program:
    """The keeper's program.

    Attributes:
        environ: The environment with which it was started.
        estate: The descriptor of the estate.
        mask: The signals that were blocked at the start.
        describe: Returns what the program needs to know beside the estate, for JSON.
        named: Returns the descriptors that it needs, and knows from the estate.
        unnamed: Returns others that it needs.
    """

    environ: Mapping[str, str]
    estate: int
    mask: frozenset[int]
    describe: Callable[[], dict[str, Any]]
    named: Callable[[], Collection[int]]
    unnamed: Callable[[], Collection[int]]

    def interpreter(self, python: str) -> str:
        """The path of the interpreter: the given one, or "" for that of this process."""
        return shutil.which(python) or python if python else sys.executable

    def check(self, python: str, estate: Estate) -> int:
        """Start a process that checks whether the program can run with the estate. Returns its process number.

        It ends with exit code 0 if it can. What it prints is kept for `output`.

        Raises:
            CallFailed: No memory can be made for its output.
            ConfigError: The interpreter cannot be started.
        """
        memory = common(_OUTPUT_SIZE, name="fdpass-check")
        output = estate.head[Head.CHECK] = memory.fileno() + 1
        memory.take()
        command = self._command(python)
        try:
            return os.posix_spawn(
                command[0],
                command,
                self._environ(check=True),
                # The first one inherits the descriptor although it is close-on-exec.
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, self.estate, self.estate),
                    *((os.POSIX_SPAWN_DUP2, output - 1, number) for number in (1, 2)),
                ],
                setpgroup=0,
                setsigmask=self.mask,
            )
        except OSError as error:
            self.output(estate)
            raise ConfigError(f"cannot start {command[0]}: {error.strerror}") from error

    def output(self, estate: Estate) -> str:
        """The last line that the process of `check` has printed."""
        number = estate.head[Head.CHECK] - 1
        estate.head[Head.CHECK] = 0
        lines = os.pread(number, _OUTPUT_SIZE, 0).rstrip(b"\0").decode(errors="replace").strip().splitlines()
        os.close(number)
        if lines:
            sys.stderr.write("\n".join(["upgrade: the new interpreter has printed:", *lines, ""]))
            sys.stderr.flush()
        return lines[-1].strip().removeprefix("Error: ") if lines else ""

    def replace(self, python: str) -> None:
        """Become the program: returns only if that fails.

        Raises:
            ConfigError: The interpreter cannot be started.
        """
        unnamed = sorted(self.unnamed())
        numbers = {*self.named(), *unnamed, self.estate}
        command, environ = self._command(python), self._environ(check=False, unnamed=unnamed)
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            for number in numbers:
                os.set_inheritable(number, True)
            os.execve(command[0], command, environ)  # noqa: S606 - this is what the user asks for
        except OSError as error:
            for number in numbers:
                os.set_inheritable(number, False)
            raise ConfigError(f"cannot start {command[0]}: {error.strerror}") from error

    def _command(self, python: str) -> list[str]:
        return [self.interpreter(python), *sys.orig_argv[1:]]

    def _environ(self, *, check: bool, unnamed: Sequence[int] = ()) -> dict[str, str]:
        known = self.describe() | {"check": check, "estate": self.estate, "unnamed": unnamed}
        return {**self.environ, _VARIABLE: json.dumps(known)}


def handed_over(environ: MutableMapping[str, str] = os.environ) -> dict[str, Any] | None:
    """What `Program` has handed to this process; None if the process is the start of a server.

    The variable is removed from the environment, so that no child uses it.
    """
    text = environ.pop(_VARIABLE, "")
    known: dict[str, Any] | None = json.loads(text) if text else None
    return known
