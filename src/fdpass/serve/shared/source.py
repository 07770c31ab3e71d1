"""`Source`: where a server's settings come from, in words that code of another version understands, too."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import NamedTuple

from fdpass.serve.shared.config import Config


class Source(NamedTuple):
    """A function that reads the settings.

    Attributes:
        module: The name of its module.
        function: Its name.
        arguments: Its one argument: the arguments of the command.
    """

    module: str
    function: str
    arguments: list[str]

    def read(self) -> Config:
        """Read the settings.

        Raises:
            ConfigError: They are not allowed.
        """
        read: Callable[[list[str]], Config] = getattr(importlib.import_module(self.module), self.function)
        return read(self.arguments)
