"""rounds.sampling and rounds.scoring: whose completions are compared, and what their hidden rewards are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rlhf_cli.feedback.preference import Row
from rlhf_cli.rounds.sampling import sample_pairs
from rlhf_cli.rounds.scoring import measure_truth, plain_rows, scored_rows
from rlhf_cli.rounds.truth import Truth
from rlhf_cli.types import PromptRow
from tests.unit.evaluation.samples import evaluation
from tests.unit.support import Recorder, build, config_of, move_adapter, rows_of, save_adapter, tiny

PROMPTS = [PromptRow(f"Say {n}.", {}, f"f:{n}") for n in range(6)]
ROWS = rows_of(train=PROMPTS, held_out=[PromptRow("held out", {}, "f:9")])
ANSWERS = [(PROMPTS[0], ("abc", "xyz")), (PROMPTS[1], ("ax", "abxx"))]


def test_each_prompt_is_asked_before_one_is_asked_again() -> None:
    first, second = (sample_pairs(config_of(), ROWS, number, 3, None, Recorder()) for number in (1, 2))
    assert {row.prompt for row, _ in (*first, *second)} == {row.prompt for row in PROMPTS}
    assert all(len(set(texts)) == 2 for _, texts in first)
    assert sample_pairs(config_of(), ROWS, 1, 3, None, Recorder()) == first


def test_the_policy_of_the_round_before_writes(tmp_path: Path) -> None:
    policy = build(tiny())
    move_adapter(policy)
    save_adapter(policy, tmp_path)
    by_reference, by_policy = (
        sample_pairs(config_of(), ROWS, 1, 3, adapter, Recorder()) for adapter in (None, tmp_path)
    )
    assert [row for row, _ in by_policy] == [row for row, _ in by_reference]
    assert [texts for _, texts in by_policy] != [texts for _, texts in by_reference]


def test_pairs_have_their_hidden_rewards_but_for_people() -> None:
    # the reward of config_of: the share of characters that are a, b or c
    assert scored_rows(config_of(), ROWS, ANSWERS) == [
        Row("Say 0.", "abc", "xyz", (1.0, 0.0)),
        Row("Say 1.", "ax", "abxx", (0.5, 0.5)),
    ]
    assert plain_rows(ANSWERS) == [Row("Say 0.", "abc", "xyz", None), Row("Say 1.", "ax", "abxx", None)]


def test_the_true_reward_of_an_evaluation_is_that_of_its_texts() -> None:
    found = replace(
        evaluation([[3.0, 5.0], [1.0, 1.0]], 7),
        prompts=[4, 2],
        texts=[["abc", "xyz"], ["ax", "a"]],
        kl=[[0.5, 1.5], [2.0, 4.0]],
    )
    assert measure_truth(config_of(), ROWS, PROMPTS, [found]) == [
        Truth(7, [4, 2], kl=[1.0, 3.0], proxy=[4.0, 1.0], true=[0.5, 0.75])
    ]
