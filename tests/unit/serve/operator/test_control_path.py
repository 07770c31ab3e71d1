"""The default path of the control socket: in a folder that belongs to the user alone, or refused."""

import os
import stat

import pytest

from fdpass.errors import ConfigError, NotFound
from fdpass.serve.operator.client import ask, default_path


def test_the_default_path_is_in_the_runtime_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_path() == str(tmp_path / "fdpass.sock")
    with pytest.raises(NotFound, match=f"no server answers at {tmp_path}/fdpass.sock"):
        ask("", "status")


def test_a_missing_runtime_folder_is_made_for_the_user_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "new"))
    default_path()
    assert stat.S_IMODE(os.stat(tmp_path / "new").st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_can_write_is_refused(tmp_path, monkeypatch, mode):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(mode)
    with pytest.raises(ConfigError, match=r"does not belong to you alone.*give a path with --control"):
        default_path()


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.raises(ConfigError, match="does not belong to you alone"):
        default_path()


def test_a_symbolic_link_in_place_of_the_folder_is_refused(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "link"))
    with pytest.raises(ConfigError, match="give a path with --control"):
        default_path()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none" / "at" / "all"))
    with pytest.raises(ConfigError, match=r"no folder for the control socket.*give a path with --control"):
        default_path()
