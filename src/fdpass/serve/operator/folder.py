"""`Folder`: the folder in which the server was started, found anew at each reload: its name may be a symlink."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from fdpass._fd import Fd


class Folder:
    """The working folder by its name.

    A deploy often consists of a new folder, and of a symlink that is switched to it. The kernel remembers the
    folder in which a process was started, and not the symlink; the shell leaves the name in ``PWD``.

    Args:
        name: The name, as another `Folder` has found it; None to find it.

    Attributes:
        name: The name; "" if it is not known.
    """

    def __init__(self, name: str | None = None) -> None:
        if name is None:
            name = os.environ.get("PWD", "")
            name = name if os.path.isabs(name) and _is_here(name) else ""
        self.name = name

    def moved(self) -> str:
        """Where the name leads now, if it leads elsewhere than at the start; else an empty text."""
        if not self.name or not os.path.isdir(self.name) or _is_here(self.name):
            return ""
        return os.path.realpath(self.name)

    @contextlib.contextmanager
    def entered(self) -> Iterator[str]:
        """Work in the folder to which the name leads now, and return to the one before; yields `moved`.

        Raises:
            OSError: The folder cannot be entered.
        """
        folder = self.moved()
        if not folder:
            yield ""
            return
        with Fd(os.open(".", os.O_RDONLY | os.O_DIRECTORY)) as before:  # which may have no name any more
            os.chdir(folder)
            try:
                yield folder
            finally:
                os.fchdir(before.fileno())


def _is_here(name: str) -> bool:
    try:
        return os.path.samefile(name, ".")
    except OSError:  # one of them has been removed
        return False
