"""feedback.from_runs: what is compared with what."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.feedback.from_runs import pairs_file, rows_of_run, rows_of_two, titles
from rlhf_cli.feedback.preference import Row
from rlhf_cli.runs.binding import CHANGED, write_record
from rlhf_cli.runs.folder import CONFIG, EVALUATIONS
from rlhf_cli.types import Message, PromptRow
from tests.unit.evaluation.samples import evaluation

PROMPTS = [PromptRow(f"prompt {n}", {}, "") for n in range(3)]


def run_at(folder: Path, name: str, *, prompts: list[int] = [0, 2], mark: str = "", reward: str = "length") -> Path:  # noqa: B006
    """A run with evaluations at steps 0 and 4, two samples a prompt."""
    made = folder / name
    made.mkdir()
    (made / CONFIG).write_text(json.dumps({"reward": {"kind": reward}}))
    lines = []
    for step, who in ((0, "ref"), (4, "pol")):
        texts = [[f"{who}{mark} {n}.{sample}" for sample in range(2)] for n in prompts]
        rewards = [[10.0 * step + n, 10.0 * step + n + 0.5] for n in prompts]
        same = {"kl": rewards, "logprob": rewards, "ref_logprob": rewards}
        shape = {"length": [[1, 1] for _ in prompts], "truncated": [[False, False] for _ in prompts]}
        found = replace(evaluation(rewards, step), prompts=list(prompts), texts=texts, reward=rewards, **same, **shape)
        lines.append(json.dumps(found.row()))
    (made / EVALUATIONS).write_text("\n".join(lines) + "\n")
    return made


def test_the_policy_against_its_reference(tmp_path: Path) -> None:
    run = run_at(tmp_path, "one")
    assert rows_of_run(run, PROMPTS) == [
        Row("prompt 0", "pol 0.0", "ref 0.1", (40.0, 0.5)),
        Row("prompt 2", "pol 2.0", "ref 2.1", (42.0, 2.5)),
    ]
    assert titles([run]) == ("policy (step 4)", "reference")


def test_a_chat_is_written_out(tmp_path: Path) -> None:
    turns = (Message("system", "Be brief."), Message("assistant", None, '{"tool_calls": []}'), Message("user", "Hi"))
    prompts = [PromptRow(turns, {}, ""), PROMPTS[1], PromptRow((turns[0], turns[2]), {}, "")]
    called, plain = rows_of_run(run_at(tmp_path, "one"), prompts)
    assert called.prompt == 'system: Be brief.\n\nassistant: {"tool_calls": []}\n\nuser: Hi'
    assert called.turns == ()  # a call of a tool is more than a role and a content
    assert plain.prompt == "system: Be brief.\n\nuser: Hi"
    assert plain.turns == (("system", "Be brief."), ("user", "Hi"))


def test_policy_against_policy_by_the_prompts_that_both_have(tmp_path: Path) -> None:
    one, two = run_at(tmp_path, "one"), run_at(tmp_path, "two", prompts=[1, 2], mark="'")
    other = [PromptRow("prompt 0", {}, ""), PROMPTS[2], PromptRow("new", {}, "")]
    assert rows_of_two([one, two], [PROMPTS, other]) == [Row("prompt 2", "pol 2.0", "pol' 1.1", (42.0, 41.5))]
    assert titles([one, two]) == ("one (step 4)", "two (step 4)")


def test_rewards_of_two_kinds_are_not_compared(tmp_path: Path) -> None:
    one, two = run_at(tmp_path, "one"), run_at(tmp_path, "two", reward="sentiment")
    assert {row.rewards for row in rows_of_two([one, two], [PROMPTS, PROMPTS])} == {None}


def test_a_change_of_the_reward_leaves_the_texts_and_one_of_the_data_nothing(tmp_path: Path) -> None:
    run = run_at(tmp_path, "one")
    rows = rows_of_run(run, PROMPTS)
    write_record(run, {CHANGED: {"reward": 2}})
    assert rows_of_run(run, PROMPTS) == [replace(row, rewards=None) for row in rows]
    write_record(run, {CHANGED: {"data": 2}})
    with pytest.raises(UserError, match="lacks the reference's"):
        rows_of_run(run, PROMPTS)


def test_runs_without_a_prompt_in_common(tmp_path: Path) -> None:
    one, two = run_at(tmp_path, "one"), run_at(tmp_path, "two")
    with pytest.raises(UserError, match="no held-out prompt in common"):
        rows_of_two([one, two], [PROMPTS, [PromptRow(f"other {n}", {}, "") for n in range(3)]])


def test_the_name_of_the_file_follows_from_the_texts(tmp_path: Path) -> None:
    one, two = run_at(tmp_path, "one"), run_at(tmp_path, "t wo", mark="'")
    alone, both = pairs_file([one]), pairs_file([one, two])
    assert alone.parent == both.parent == one / "feedback"
    assert alone.name.startswith("step-00000004-")
    assert both.name.startswith("step-00000004-against-t_wo-step-00000004-")
    shutil.rmtree(one)
    assert pairs_file([run_at(tmp_path, "one")]) == alone
    shutil.rmtree(one)
    assert pairs_file([run_at(tmp_path, "one", mark="!")]) != alone


@pytest.mark.parametrize(("kept", "what"), [(0, "lacks the reference's"), (1, "lacks the policy's")])
def test_a_run_without_completions_to_compare(kept: int, what: str, tmp_path: Path) -> None:
    run = run_at(tmp_path, "one")
    lines = (run / EVALUATIONS).read_text().splitlines(keepends=True)
    (run / EVALUATIONS).write_text("".join(lines[:kept]))
    with pytest.raises(UserError, match=what) as caught:
        pairs_file([run])
    assert caught.value.exit_code == 3
