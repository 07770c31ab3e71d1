"""`Folder`: the folder that the server was started in, by its name, which a deploy leads elsewhere."""

import os
import shutil

import pytest

from fdpass.serve.operator.folder import Folder


@pytest.fixture
def releases(tmp_path, monkeypatch):
    """Two folders, and a symlink to the first, in which this process works."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "current").symlink_to("one")
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.setenv("PWD", str(tmp_path / "current"))
    return tmp_path


def switch(releases):
    (releases / "next").symlink_to("two")
    (releases / "next").rename(releases / "current")


@pytest.mark.parametrize("removed", [False, True])
def test_a_switched_symlink_is_followed(releases, removed):
    folder = Folder()
    assert folder.moved() == ""
    with folder.entered() as entered:
        assert (entered, os.getcwd()) == ("", str(releases / "one"))
    switch(releases)
    if removed:
        shutil.rmtree(releases / "one")
    with folder.entered() as entered:
        assert entered == os.getcwd() == str(releases / "two")
    if not removed:
        assert os.getcwd() == str(releases / "one")


@pytest.mark.parametrize("name", ["", "current", "/no/such/folder", "/"])
def test_a_name_that_is_not_that_of_the_folder_is_not_used(releases, monkeypatch, name):
    monkeypatch.setenv("PWD", name)
    folder = Folder()
    switch(releases)
    assert folder.moved() == ""


def test_a_name_that_leads_nowhere_is_not_followed(releases):
    folder = Folder()
    (releases / "current").unlink()
    assert folder.moved() == ""
