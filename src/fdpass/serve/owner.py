"""`Owner`: what the pool of workers needs of whoever passes them connections."""

from __future__ import annotations

from typing import Protocol

from fdpass.fd import Fd
from fdpass.serve.generation import Generation
from fdpass.serve.member import Member


class Owner(Protocol):
    """What the pool asks of its dispatcher, and tells it."""

    def buffers(self) -> Fd | None:
        """Memory for the receive buffers of a worker, if it needs any. Given."""

    def set_up(self, member: Member, generation: Generation) -> None:
        """A worker was started, and has to be told everything."""

    def ready(self, member: Member) -> None:
        """A worker can take connections."""

    def leaving(self, member: Member) -> None:
        """A worker gets no more connections."""

    def gone(self, member: Member) -> str:
        """A worker has ended. Returns what became of its connections: "" if it had none."""

    def waits(self) -> bool:
        """Whether connections of an ended worker wait for others to take them."""

    def settled(self) -> None:
        """Something has ended that somebody may wait for: see `Pool.candidate`, `Pool.complete`."""
