"""Tuned values for an installed config go to the user's folder, where train and tune find them."""

from pathlib import Path

import pytest

from sb3_lecture.zoo import configs, playing
from sb3_lecture.zoo.errors import UserError


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A config that lies in an installed package."""
    monkeypatch.setenv("SB3_LECTURE_CONFIGS", str(tmp_path / "mine"))
    monkeypatch.setattr(configs.sysconfig, "get_path", lambda name: str(tmp_path / "site-packages"))
    path = tmp_path / "site-packages" / "zoo_configs" / "q_learning.yml"
    path.parent.mkdir(parents=True)
    path.write_text("CartPole-v1:\n  # source: theirs\n  n_timesteps: 100\n  policy: 'TabularPolicy'\n")
    return path


def test_values_go_to_a_copy_which_is_found_first(installed, tmp_path):
    before = installed.read_text()
    assert configs.config_path("q_learning") != tmp_path / "mine" / "q_learning.yml"
    copy = configs.config_to_write(installed)
    assert copy == tmp_path / "mine" / "q_learning.yml" and copy.read_text() == before
    copy.write_text(before.replace("100", "200"))
    assert installed.read_text() == before
    assert configs.config_path("q_learning") == copy


def test_a_checkouts_and_ones_own_config_is_written_to_itself(installed, tmp_path):
    own = tmp_path / "own.yml"
    assert configs.config_to_write(own) == own
    checkout = configs.config_path("sarsa")
    assert configs.config_to_write(checkout) == checkout and not (tmp_path / "mine").exists()


def test_a_folder_that_cannot_be_written_is_named(installed, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SB3_LECTURE_CONFIGS", str(tmp_path / "file" / "below"))
    with pytest.raises(UserError, match=r"cannot write .*below.*SB3_LECTURE_CONFIGS names another folder"):
        configs.config_to_write(installed)


def test_the_users_folder_is_where_settings_are(monkeypatch):
    monkeypatch.delenv("SB3_LECTURE_CONFIGS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/settings")
    assert configs.user_folder() == Path("/settings/sb3_lecture/zoo_configs")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert configs.user_folder() == Path.home() / ".config/sb3_lecture/zoo_configs"


@pytest.mark.parametrize("display", [True, False])
def test_without_a_display_enjoy_says_what_to_do(monkeypatch, capsys, display):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(playing.sys, "platform", "linux")
    if display:
        monkeypatch.setenv("DISPLAY", ":0")
        assert playing.choose_render_mode("CartPole-v1", "auto", None) == "human"
        assert capsys.readouterr().out == ""
        return
    assert playing.choose_render_mode("CartPole-v1", "auto", None) is None
    assert "--video FILE.mp4" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"no display here; --video FILE.mp4"):
        playing.choose_render_mode("CartPole-v1", "human", None)
    with pytest.raises(UserError, match=r"no display here; --render ansi shows it in the terminal, --video"):
        playing.choose_render_mode("FrozenLake-v1", "human", None)
