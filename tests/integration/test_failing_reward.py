"""A reward that fails in the middle of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import Outcome

Rlhf = Callable[..., Outcome]


def test_a_reward_that_fails_keeps_what_is_complete(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlhf_cli.rewards.kinds.characters import Characters

    plain, calls = Characters.score, 0

    def failing(self: Characters, prompts: object, completions: list[str]) -> list[float]:
        nonlocal calls
        calls += 1
        return plain(self, [], completions) if calls < 4 else [float("nan")] * len(completions)

    monkeypatch.setattr(Characters, "score", failing)
    outcome = rlhf("train", "config=tiny", "evaluate.every=0", "display=quiet", "run_dir=out")
    assert outcome.code == 4
    assert "gave nan for the completion" in outcome.err
    assert (tmp_path / "out" / "checkpoints" / "step-00000003").is_dir()


@pytest.mark.parametrize("is_there", [False, True], ids=["no folder", "a folder of the user"])
def test_a_run_that_is_refused_at_its_start_leaves_no_folder(is_there: bool, rlhf: Rlhf, tmp_path: Path) -> None:
    """Neither its own nor those around it that it made, nor its copy of the settings."""
    (tmp_path / "rewards.py").write_text("def f(prompts, completions, answer): ...\n")
    (tmp_path / "mine.yaml").write_text("defaults: [tiny]\nreward: {kind: python, function: 'rewards.py:f'}\n")
    if is_there:
        (tmp_path / "outputs").mkdir()
    before = sorted(tmp_path.iterdir())
    assert rlhf("train", "config=mine.yaml").code == 4
    assert rlhf("train", "config=mine.yaml", "run_dir=a/b/c").code == 4
    assert sorted(tmp_path.iterdir()) == before
    assert not is_there or list((tmp_path / "outputs").iterdir()) == []
