"""Keys of settings, and the paths that they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_cli.config.keys import find_nearest, make_absolute


@pytest.mark.case(69)
def test_a_module_that_is_a_file_is_found_again_from_another_folder(tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text("")
    key = "reward.function"
    assert make_absolute(key, "rewards:f", tmp_path) == f"{tmp_path}/rewards.py:f"
    assert make_absolute(key, "rewards.py:f", tmp_path) == f"{tmp_path}/rewards.py:f"
    assert make_absolute(key, "other:f", tmp_path) == "other:f"
    assert make_absolute(key, "package.rewards:f", tmp_path) == "package.rewards:f"
    assert make_absolute(key, "${name}:f", tmp_path) == "${name}:f"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("mdel.path", "model.path"),  # ends alike, and so does data.path
        ("model.dtype", "dtype"),  # in another place; model.stop is nearer as a whole
        ("stpes", "steps"),
        ("lr", "optimizer.lr"),
        ("optimizer.l", "optimizer.lr"),
        ("zzz", None),
    ],
)
def test_the_nearest_name(name: str, nearest: str | None) -> None:
    names = ["data.path", "dtype", "model.path", "model.stop", "optimizer.lr", "optimizer.eps", "steps", "parts.*.zzz"]
    assert find_nearest(name, names) == nearest
