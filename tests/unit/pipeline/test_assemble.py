"""The memory that a run is expected to take, on one process and on several."""

from typing import Any

import pytest
import torch

from rlhf_cli.engine.memory import forward_bytes
from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline import assemble
from rlhf_cli.ranks.team import Team
from tests.unit.pipeline.runs import MakeRun
from tests.unit.support import Recorder


class Two(Team):
    """The first of two processes."""

    size = 2


@pytest.mark.parametrize(
    ("held_out", "draws", "completions", "at_once"),
    [
        (0, "uniform", 15, 6),
        (5, "uniform", 20, 8),  # 2 of 5 held-out prompts with 4 completions each
        (0, "dynamic", 60, 6),  # of 4 rollouts, which are written one after the other
    ],
)
def test_a_process_writes_a_shard_at_a_time_and_keeps_the_pass_of_its_own(
    held_out: int,
    draws: str,
    completions: int,
    at_once: int,
    policy: Policy,
    make_run: MakeRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five prompts in shards of 2, 2 and 1; the first of two processes has the first and the third."""
    asked = list[tuple[int, int]]()

    def predicted(policy: Policy, *shape: int, at_once: int, **_: Any) -> int:
        asked.append((shape[2], at_once))
        return 1000

    monkeypatch.setattr(assemble, "predicted_peak", predicted)
    evaluate = {"every": 1, "prompts": 2, "samples": 4}
    settings = {"prompts_per_step": 5, "samples_per_prompt": 3, "shards": 3, "evaluate": evaluate, "prompts": draws}
    run = make_run(policy, reuse_forward=True, max_rollouts=4, **settings)
    longest = max(len(prompt.tokens) for prompt in run.held_out) + run.config.max_new_tokens
    forward = forward_bytes(policy, 5 * (longest + 2 * run.config.max_new_tokens))
    of = run.config, policy, NativeEngine(policy), run.prompts, run.held_out[:held_out]
    peaks = [assemble.fit_memory(*of, team)[1] for team in (Team(), Two())]
    assert peaks == [1000 + forward, 1000 + forward * 3 // 5]
    assert asked == [(completions, at_once)] * 2


def test_the_reward_s_own_process_has_its_part_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of 6 GiB beside a reward of 2 fits into 8 and not into less; a GPU's memory has no such part."""
    monkeypatch.setattr(assemble, "resident_of_children", lambda: 2 * assemble.GIB)
    for total, kind, noted in (
        (8.0, "cpu", []),
        (7.9, "cpu", ["a step may need 8.0 GiB of memory"]),
        (7.9, "cuda", []),
    ):
        monkeypatch.setattr(assemble, "total_memory", lambda device, total=total: total * assemble.GIB)
        watch = Recorder()
        assemble.check_memory(torch.device(kind), 6 * assemble.GIB, watch, "it")
        assert [note.partition(",")[0] for note in watch.notes] == noted
