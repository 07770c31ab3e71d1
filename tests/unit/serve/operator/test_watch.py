"""Which files --reload watches: the rules are uvicorn's, but folders of tools do not count."""

import pytest

from fdpass.errors import ConfigError
from fdpass.serve.operator import watch, watcher
from fdpass.serve.operator.watch import Filter
from fdpass.serve.shared.config import Config


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "deep").mkdir()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("includes", "excludes", "name", "counts"),
    [
        ([], [], "app.py", True),
        ([], [], "shop/views.py", True),
        ([], [], "page.html", False),
        ([], [], "app.pyc", False),
        ([], [], ".#app.py", False),
        ([], [], "~app.py", False),
        ([], [], ".venv/lib/a.py", False),
        ([], [], "a/node_modules/b/c.py", False),
        ([], [], "lib/site-packages/c.py", False),
        (["*.html"], [], "page.html", True),
        (["*.html"], [], "app.py", True),
        ([], ["*.py"], "app.py", False),
        (["*.html"], ["*.py"], "app.py", False),
        (["*.html"], ["*.py"], "page.html", True),
        ([], ["made_*.py"], "made_a.py", False),
        ([], ["static"], "static/a.py", False),
        ([], ["static"], "static/deep/a.py", False),
        ([], ["static"], "other/a.py", True),
        ([".env"], [], ".env", True),
        ([".env"], [], ".other", False),
        (["data/*.json"], [], "data/a.json", True),
        (["data/*.json"], [], "other/a.json", False),
    ],
)
def test_which_files_count(includes, excludes, name, counts, tmp_path):
    assert Filter(includes, excludes)(None, str(tmp_path / name)) is counts


def test_a_project_in_a_folder_of_tools_is_watched_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "site-packages").mkdir()
    monkeypatch.chdir(tmp_path / "site-packages")
    assert Filter([], [])(None, str(tmp_path / "site-packages" / "app.py"))


def test_which_folders_are_watched(tmp_path):
    here, static = str(tmp_path), str(tmp_path / "static")
    assert watch.folders(Config()) == [here]
    assert watch.folders(Config(app_dir="static")) == [here, static]
    assert watch.folders(Config(reload_dir="static")) == [static]
    assert watch.folders(Config(reload_dir="static", reload_include=["*.html", "static/deep"])) == [
        static,
        static + "/deep",
    ]


def test_names_in_the_log_are_few_and_safe():
    assert watch.named(["a.py"]) == "a.py"
    assert watch.named(["a\x1b.py", "b", "c", "d", "e"]) == "a\\x1b.py, b, c and 2 more"


@pytest.mark.parametrize("settings", [{"reload_dir": "none"}, {"reload_include": [""]}, {"reload_exclude": [""]}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ConfigError, match="--reload-"):
        Config(**settings)


def test_without_watchfiles_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    watcher.check(Config())
    with pytest.raises(ConfigError, match=r"pip install 'fdpass\[reload\]'"):
        watcher.check(Config(reload=True))
