"""rounds.folder: rounds go on with the settings that they began with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.rounds.folder import FeedbackSettings, keep_settings, make_folder, rounds_in

SETTINGS = FeedbackSettings(("config=tiny",), ("steps=3",), 2, 16, "simulated", 0.5, 0.1, {"beta.value": "0.1"})


def test_settings_are_kept_and_only_more_rounds_may_follow(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "loop"
    make_folder(folder)
    keep_settings(folder, SETTINGS)
    keep_settings(folder, SETTINGS)
    assert FeedbackSettings.read(folder) == SETTINGS
    keep_settings(folder, replace(SETTINGS, rounds=3))
    make_folder(folder)  # of rounds: it stays as it is
    assert FeedbackSettings.read(folder) == replace(SETTINGS, rounds=3)
    for changed, words in (
        (replace(SETTINGS, pairs=8), "the rounds began with pairs = 16"),
        (replace(SETTINGS, config={"beta.value": "0.2"}), "the rounds began with beta.value = 0.1"),
        (replace(SETTINGS, annotator="person"), "the rounds began with annotator = simulated"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            keep_settings(folder, changed)
        assert caught.value.exit_code == 5
    assert FeedbackSettings.read(folder) == replace(SETTINGS, rounds=3)


def test_a_folder_of_something_else_stays(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    with pytest.raises(UserError, match="the folder holds something else"):
        make_folder(tmp_path)
    with pytest.raises(UserError, match="no folder"):
        make_folder(tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_damaged_settings_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "feedback.json").write_text("{")
    with pytest.raises(UserError, match=r"feedback.json cannot be read .*; fix: bring it back as it was written"):
        make_folder(tmp_path)
    assert (tmp_path / "feedback.json").read_text() == "{"


def test_the_names(tmp_path: Path) -> None:
    first, second = rounds_in(tmp_path, 2)
    assert (first.number, second.folder) == (1, tmp_path / "round-2")
    assert first.adapter == tmp_path / "round-1" / "policy" / "adapter"


def test_people_are_not_simulated() -> None:
    assert SETTINGS.simulated is not None
    assert SETTINGS.simulated.noise == 0.5
    assert replace(SETTINGS, annotator="person").simulated is None
