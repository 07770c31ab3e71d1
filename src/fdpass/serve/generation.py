"""`Generation`: what the workers of one state of the code have in common."""

from __future__ import annotations

from dataclasses import dataclass

from fdpass.serve.config import Config


@dataclass(frozen=True, slots=True)
class Generation:
    """All workers started from one state of the code.

    Attributes:
        number: From 1.
        config: Their settings.
        target: How many of them shall serve; ``spare`` more shall be ready.
    """

    number: int
    config: Config
    target: int
