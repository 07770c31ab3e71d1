"""`ReloadSettings`: settings of ``--reload`` that `Config` inherits."""

from __future__ import annotations

import os
from dataclasses import dataclass

from fdpass.errors import ConfigError
from fdpass.serve.shared.setting import field


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadSettings:
    """The settings of the development server."""

    reload: bool = field(
        False,
        "Reload when a file changes, for development. The default number of workers is then 1. Needs watchfiles.",
        fixed=True,
    )
    reload_dir: tuple[str, ...] = field(
        (),
        "Folder to watch, with all folders in it. Repeatable.",
        kind="texts",
        metavar="FOLDER",
        shown="the working folder, and that of `--app-dir`",
        fixed=True,
    )
    reload_include: tuple[str, ...] = field(
        (),
        "Pattern of files whose change counts, besides `*.py`; a folder is watched, too. Repeatable.",
        kind="texts",
        metavar="PATTERN",
        shown="none",
        fixed=True,
    )
    reload_exclude: tuple[str, ...] = field(
        (),
        "Pattern of files, or folder, whose changes do not count, besides `.*`, `.py[cod]`, `.sw.*` and `~*`. "
        "Repeatable.",
        kind="texts",
        metavar="PATTERN",
        shown="none",
        fixed=True,
    )

    def _check_reload(self) -> None:
        """Refuse a folder that is not there, and empty patterns.

        Raises:
            ConfigError: There is one.
        """
        for folder in self.reload_dir:
            if not os.path.isdir(folder):
                raise ConfigError(f"--reload-dir {folder!r} is not a folder")
        if not (all(self.reload_include) and all(self.reload_exclude)):
            raise ConfigError("--reload-include and --reload-exclude take patterns such as *.html, not empty text")
