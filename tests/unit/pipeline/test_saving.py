"""What a run exports is whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rlhf_cli.models.policy import Policy
from rlhf_cli.models.reward_model import make_score
from rlhf_cli.pipeline import saving
from rlhf_cli.pipeline.saving import Saver
from rlhf_cli.pipeline.state import Best, TrainState
from rlhf_cli.runs.disk import Disk
from rlhf_cli.schema import Checkpoint
from tests.unit.support import build, tiny


class Full(Disk):
    """A disk that is full when the folder is published."""

    def rename(self, old: Path, new: Path) -> None:
        raise OSError(28, "No space left on device")


def scores(path: Path) -> list[float]:
    score = make_score(
        str(path), revision=None, label=None, activation="none", reads="auto", max_tokens=64, batch_size=1,
        device="cpu", dtype="auto",
    )  # fmt: skip
    return score(["Hi"], ["there"])


def test_a_reward_model_is_replaced_whole(tmp_path: Path) -> None:
    policy = build(tiny(), value_head=True)
    assert policy.value_head is not None
    saver = Saver(tmp_path, Checkpoint(every=1, keep=1, keep_best=False, max_failures=1), print)
    saver.export_reward_model(policy, "auto")
    assert scores(tmp_path / "reward_model") == [0.0]  # a head of zeros
    torch.nn.init.ones_(policy.value_head.linear.weight)
    saver.disk = Full()
    with pytest.raises(OSError, match="No space"):
        saver.export_reward_model(policy, "auto")
    saver.disk = Disk()
    with pytest.MonkeyPatch.context() as full:

        def refuse(policy: Policy, folder: Path, reads: str) -> None:
            (folder / "half").touch()
            raise OSError("Error while serializing: No space left on device")  # as safetensors has it

        full.setattr(saving, "write_classifier", refuse)
        with pytest.raises(OSError, match="Error while serializing: No space") as caught:
            saver.export_reward_model(policy, "auto")
    assert caught.value.filename == str(tmp_path / "reward_model")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".reward_model.new").mkdir()
    (tmp_path / ".reward_model.new" / "left.over").touch()
    folder = saver.export_reward_model(policy, "auto")
    assert folder == tmp_path / "reward_model"
    assert scores(folder) != [0.0]
    assert not (folder / "left.over").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["reward_model"]


def test_the_hint_of_the_best_checkpoint_names_none_that_is_gone(tmp_path: Path) -> None:
    """A resume may begin, or cease, to keep the best one, and a fork has a single checkpoint of its parent's."""
    policy = build(tiny())
    optimizer = torch.optim.AdamW(policy.parameters().values())
    best = tmp_path / "checkpoints" / "best"

    def save(step: int, best_step: int, *, keep_best: bool) -> None:
        saver = Saver(tmp_path, Checkpoint(every=1, keep=1, keep_best=keep_best, max_failures=1), print)
        state = TrainState(step=step, best=Best(best_step, 0.5, 1.0))
        assert saver.save(state, policy, optimizer, lambda: None, needed=True)

    save(1, 1, keep_best=True)
    save(2, 1, keep_best=True)
    assert best.read_text() == "step-00000001\n"
    save(3, 1, keep_best=False)
    assert not best.exists()
    save(4, 1, keep_best=True)
    assert not best.exists()
    save(5, 5, keep_best=True)
    assert best.read_text() == "step-00000005\n"
