"""The doubts and the reasons of a trial, at their limits."""

from __future__ import annotations

import pytest

from rlhf_cli.verify.trial import _doubts, _reasons
from tests.unit.support import SHAPING, config_of

FINE = {"completion/truncated": 0.5, "reward/same_in_group": 0.5, "reward/failures": 0.0}
NO_SIGNAL = {"reward/same_in_group": 1.0, "reward/mean_se": 0.0}


@pytest.mark.parametrize(
    ("metrics", "doubts"),
    [
        ({}, []),
        ({"completion/truncated": 0.51}, ["51% of the completions were cut at max_new_tokens=8"]),
        (
            {"reward/same_in_group": 0.51},
            ["51% of the prompts have completions with one score, and teach nothing"],
        ),
        ({"reward/same_in_group": 1.0}, []),  # no doubt, but a reason not to begin
        ({"reward/failures": 2.0}, ["2 completions without a score"]),
    ],
)
def test_doubts(metrics: dict[str, float], doubts: list[str]) -> None:
    assert [*_doubts(config_of(), FINE | metrics, 1234)] == doubts


@pytest.mark.parametrize(("processes", "shard_model", "doubts"), [(1, False, 0), (2, False, 1), (2, True, 0)])
def test_copies_of_the_model_are_doubted(processes: int, shard_model: bool, doubts: int) -> None:
    config = config_of(prompts_per_step=2, shards=2, processes=processes, shard_model=shard_model)
    text = "each of 2 processes holds the model: up to 2,468 MiB, where they share a machine"
    assert [*_doubts(config, FINE, 1234)] == [text] * doubts


@pytest.mark.parametrize(
    ("skipped", "change", "reasons"),
    [
        ("", {}, []),
        ("the gradient is not finite", {}, ["the gradient is not finite"]),
        ("none of 4 groups has different scores", NO_SIGNAL, ["nothing to learn from: every score is 0.5"]),
    ],
)
def test_a_step_that_changes_nothing_is_no_go(skipped: str, change: dict[str, float], reasons: list[str]) -> None:
    config = config_of(reward={"kind": "characters", "characters": "abc"} | SHAPING)
    assert [*_reasons(config, FINE | {"reward/mean": 0.5, "reward/std": 0.1} | change, skipped)] == reasons
