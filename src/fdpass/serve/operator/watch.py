"""``python -m fdpass.serve.operator.watch SETTINGS``: reloads a server when a file changes, for ``--reload``.

It is a process of its own, so that the dispatcher has no thread. It ends when its standard input does: with the
server.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from fdpass._supervision.logs import line_handler
from fdpass.errors import FdpassError, RequestFailed
from fdpass.serve.operator.client import ask
from fdpass.serve.shared.config import Config

log = logging.getLogger("fdpass.serve")
_INCLUDES = ("*.py",)
_EXCLUDES = (".*", ".py[cod]", ".sw.*", "~*")
_IGNORED = {  # folders of tools, wherever they are
    *(".git", ".hg", ".svn", ".venv", ".tox", ".nox", ".idea", "__pycache__", "node_modules", "site-packages"),
    *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"),
}
_MOST_NAMED = 3  # files that a log line names


class Filter:
    """Tells which files count.

    Args:
        includes: Patterns and folders of ``--reload-include``.
        excludes: Of ``--reload-exclude``.
    """

    def __init__(self, includes: Sequence[str], excludes: Sequence[str]) -> None:
        self._includes = [*(each for each in _INCLUDES if each not in excludes), *includes]
        self._excludes = [each for each in _EXCLUDES if each not in includes]
        self._excludes += [each for each in excludes if not os.path.isdir(each)]
        self._folders = [Path(each).resolve() for each in excludes if os.path.isdir(each)]
        self._here = Path.cwd()

    def __call__(self, _: Any, name: str) -> bool:
        """Whether a change of the file counts; called by watchfiles."""
        path = PurePath(name)
        if not any(path.match(pattern) for pattern in self._includes):
            return False
        if any(folder in path.parents for folder in self._folders):
            return False
        if path.name in self._includes:  # named, and not by a pattern
            return True
        inside = path.relative_to(self._here) if path.is_relative_to(self._here) else path
        return _IGNORED.isdisjoint(inside.parts) and not any(path.match(pattern) for pattern in self._excludes)


def folders(config: Config) -> list[str]:
    """The folders to watch."""
    found = list(config.reload_dir) or [".", config.app_dir]
    found += [each for each in config.reload_include if os.path.isdir(each)]
    return list(dict.fromkeys(map(os.path.realpath, found)))


def changes(config: Config) -> Iterator[list[str]]:
    """Wait for changes; yields the names of the files that have changed at about the same time."""
    from watchfiles import watch  # noqa: PLC0415 - of an extra

    found = watch(
        *folders(config),
        watch_filter=Filter(config.reload_include, config.reload_exclude),
        ignore_permission_denied=True,
        debounce=400,  # milliseconds, at most
    )
    for some in found:
        yield sorted({os.path.relpath(name) for _, name in some})


def named(files: Sequence[str]) -> str:
    """The names of changed files, for the log."""
    more = len(files) - _MOST_NAMED
    return ", ".join(ascii(each)[1:-1] for each in files[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def main() -> None:
    """Reload the server at each change."""
    settings = json.loads(sys.argv[1])
    config = Config.of(settings["config"])
    log.addHandler(line_handler(as_json=config.log_json))
    log.setLevel(config.log_level.upper())
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    try:
        for files in changes(config):
            log.info("changed: %s", named(files))
            _reload(settings["control"])
    except OSError as error:  # the limit on watches: inotify(7)
        log.error("--reload: files cannot be watched any more: %s", error)  # noqa: TRY400 - the sentence is enough
        sys.exit(1)


def _reload(control: str) -> None:
    try:
        ask(control, "reload")
    except RequestFailed:
        return  # the server has logged why
    except FdpassError as error:
        log.warning("--reload: %s", error)


def _end_with_the_server() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
