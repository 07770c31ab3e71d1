"""A reload whose settings cannot be read is refused in a sentence, whatever error the reading raises."""

import logging
from types import SimpleNamespace

import pytest

from fdpass.errors import ConfigError
from fdpass.serve.operator.folder import Folder
from fdpass.serve.operator.reloads import Reloads
from fdpass.serve.shared.config import Config


@pytest.mark.parametrize(
    ("error", "why", "has_trace"),
    [
        (ConfigError("--workers 0: must be from 1"), "--workers 0: must be from 1", False),
        (FileNotFoundError("gone"), "gone", False),
        (ValueError("embedded null byte"), "the settings cannot be read: ValueError: embedded null byte", True),
        (RecursionError("deep"), "the settings cannot be read: RecursionError: deep", True),
        (SyntaxError("invalid syntax"), "the settings cannot be read: SyntaxError: invalid syntax", True),
    ],
)
def test_an_error_refuses_the_reload_and_only_a_mistake_in_the_code_has_a_traceback(caplog, error, why, has_trace):
    def reread():
        raise error

    current = SimpleNamespace(number=1, config=Config())
    pool = SimpleNamespace(stopping=False, current=current, totals=SimpleNamespace(reloads={"refused": 0}))
    reloads = Reloads(None, pool, reread=reread, outcomes=None, notifier=None, folder=Folder(""))
    replies = []
    with caplog.at_level(logging.ERROR, "fdpass.serve"):
        reloads.request(replies.append)
    assert replies == [{"ok": False, "error": why}]
    assert pool.totals.reloads == {"refused": 1}
    assert [(record.getMessage(), record.exc_info is not None) for record in caplog.records] == [
        (f"reload: refused, generation 1 keeps serving: {why}", has_trace)
    ]
    assert not reloads.awaited
