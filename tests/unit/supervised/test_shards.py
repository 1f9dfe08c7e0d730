"""The shards of a batch have its examples, its figures and its gradient, whoever reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_cli.data.preference import Lesson
from rlhf_cli.engine import Engine
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.models.policy import Policy
from rlhf_cli.ranks import worker
from rlhf_cli.ranks.coding import pack, unpack
from rlhf_cli.ranks.dealing import rank_of
from rlhf_cli.ranks.gradient import add_gradients
from rlhf_cli.ranks.messages import Opening, Order
from rlhf_cli.ranks.shards import Shards
from rlhf_cli.ranks.team import C, Duties, E, R, Task, Team
from rlhf_cli.seeding import seed_for
from rlhf_cli.supervised.batches import Example
from rlhf_cli.supervised.conclude import conclude
from rlhf_cli.supervised.loop import train
from rlhf_cli.supervised.objectives.bradley_terry import BradleyTerry
from rlhf_cli.supervised.objectives.dpo import Dpo
from rlhf_cli.supervised.objectives.sft import Sft
from rlhf_cli.supervised.shards import deal_batch, join_figures, judge_shard, learn_shard, passes, split_batch
from rlhf_cli.types import Prompt, Tick
from tests.unit.supervised.support import BRADLEY_TERRY, DPO, SFT, batch_of, example_of, row_of, run_of
from tests.unit.support import build, move_adapter, tiny

TEXTS = [("Say a.", "abc", "z"), ("b", "x", "yyyyyyy"), ("long prompt", "ab", "cd"), ("q", "aaaa", "b"), ("r", "c", "")]
SHARES = (1.0, 0.5, 0.25, 0.8, 1.0)
OBJECTIVES: Sequence[Any] = [
    Sft.model_validate(SFT),
    Dpo.model_validate(DPO),
    BradleyTerry.model_validate(BRADLEY_TERRY),
]
KINDS = [objective.kind for objective in OBJECTIVES]
EXACT = ("metrics.jsonl", "evaluations.jsonl", "result.json", "adapter/adapter_model.safetensors")


def nothing() -> None:
    """A tick that nobody counts."""


def through(message: Any) -> Any:
    """The message as another process gets it."""
    return unpack(pack(message), torch.device("cpu"))


def examples_of(policy: Policy, objective: Any) -> list[Example]:
    return [
        example_of(policy, prompt, *texts[: objective.completions], share=share, margin=share)
        for (prompt, *texts), share in zip(TEXTS, SHARES, strict=True)
    ]


def moved_for(objective: Any) -> Policy:
    policy = build(tiny(layers=1, dropout=0.1), value_head=objective.scores, shared_trunk=objective.scores)
    move_adapter(policy)
    return policy


def test_a_batch_is_cut_between_examples_and_each_part_is_as_wide_as_its_longest_row(moved: Policy) -> None:
    batch = batch_of(moved, examples_of(moved, OBJECTIVES[1]))
    first, second = split_batch(batch, [range(2), range(2, 5)])
    assert [len(first), len(second)] == [2, 3]
    assert first.rollout.texts == ("abc", "z", "x", "yyyyyyy")
    assert second.rollout.texts == ("ab", "cd", "aaaa", "b", "c", "")
    assert [prompt.text for prompt in second.rollout.batch.prompts] == ["long prompt", "q", "r"]
    assert first.rollout.tokens.shape == (4, 8)
    assert second.rollout.tokens.shape == (6, 5)
    assert torch.equal(second.rollout.tokens, batch.rollout.tokens[4:, :5])
    assert (first.shares.tolist(), second.shares.tolist()) == ([1.0, 0.5], [0.25, pytest.approx(0.8), 1.0])
    assert second.margins.tolist() == second.shares.tolist()


def test_a_text_with_a_prompt_of_its_own_keeps_it(moved: Policy) -> None:
    prompts = tuple(Prompt(row_of(), text, (number,)) for number, text in enumerate("xy"))
    apart = Example(prompts, ((5, 9), (9,)), Lesson(("xa", "y")))
    batch = batch_of(moved, [example_of(moved, "a", "b", "c"), apart])
    first, second = split_batch(batch, [range(1), range(1, 2)])
    assert [first.rollout.batch.prompt_of(row).text for row in range(2)] == ["a", "a"]
    assert [second.rollout.batch.prompt_of(row).text for row in range(2)] == ["x", "y"]


def test_the_whole_batch_is_its_only_part(moved: Policy) -> None:
    batch = batch_of(moved, examples_of(moved, OBJECTIVES[0]))
    (only,) = split_batch(batch, [range(5)])
    assert only.rollout is batch.rollout


@pytest.mark.parametrize("objective", OBJECTIVES, ids=KINDS)
def test_shards_have_the_gradient_and_the_figures_of_the_whole(objective: Any) -> None:
    policy = build(tiny(layers=1), value_head=objective.scores, shared_trunk=objective.scores)
    move_adapter(policy)
    engine, batch = TransformersEngine(policy), batch_of(policy, examples_of(policy, objective))
    found = []
    for count in (1, 2, 5):
        dealt = deal_batch(batch, objective, Shards(policy, engine, Team(), count))
        assert len(dealt) == count
        whole = objective.size(batch)
        learned = [learn_shard(policy, engine, *part, whole, 3, 0, tick=nothing) for part in dealt]
        assert all(weight.grad is None for weight in policy.parameters().values())
        add_gradients(policy, [gradient for gradient, _ in learned])
        gradient = {n: w.grad for n, w in policy.parameters().items() if w.grad is not None}
        judged = join_figures([judge_shard(policy, engine, *part, 3, tick=nothing) for part in dealt])
        found.append((gradient, join_figures([figures for _, figures in learned]), judged))
    (whole_gradient, *expected), *others = found
    largest = max(float(part.abs().max()) for part in whole_gradient.values())
    assert largest > 1e-3
    for gradient, *figures in others:
        assert gradient.keys() == whole_gradient.keys()
        for name, part in gradient.items():
            torch.testing.assert_close(part, whole_gradient[name], rtol=0, atol=1e-5 * max(1.0, largest))
        for own, other in zip(figures, expected, strict=True):
            assert own.keys() == other.keys()
            for name, values in own.items():
                assert values == pytest.approx(other[name], abs=1e-4), name


@pytest.mark.parametrize("objective", OBJECTIVES, ids=KINDS)
def test_a_shard_that_travels_has_the_same_bits(objective: Any) -> None:
    policy = moved_for(objective)
    engine = TransformersEngine(policy)
    batch = batch_of(policy, examples_of(policy, objective))
    part = deal_batch(batch, objective, Shards(policy, engine, Team(), 2))[1]
    gradient, figures = learn_shard(policy, engine, *part, 7, 3, 11, tick=nothing)
    again, figures_again = through(learn_shard(policy, engine, *through(part), 7, 3, 11, tick=nothing))
    assert figures_again == figures
    assert [one is None for one in again] == [one is None for one in gradient]
    assert all(torch.equal(a, b) for a, b in zip(again, gradient, strict=True) if a is not None)
    other, _ = learn_shard(policy, engine, *part, 7, 3, 12, tick=nothing)  # the seed is that of the dropout
    assert not all(torch.equal(a, b) for a, b in zip(other, gradient, strict=True) if a is not None)


def test_figures_are_joined_in_the_order_of_the_shards() -> None:
    parts = [{"loss": [1.0, 2.0], "tokens": [3.0, 4.0]}, {"loss": [5.0], "tokens": [6.0]}]
    assert join_figures(parts) == {"loss": [1.0, 2.0, 5.0], "tokens": [3.0, 4.0, 6.0]}


def test_a_process_counts_the_microbatches_that_it_reads_itself(moved: Policy) -> None:
    class Pair(Team):
        size = 2

    batch, engine = batch_of(moved, examples_of(moved, OBJECTIVES[1])), TransformersEngine(moved)
    # pairs 0 and 1 are the first shard's, 4 is the third's; a microbatch of three completions has one pair
    assert passes(Shards(moved, engine, Pair(), 3), batch, 3) == 2 + 1
    assert passes(Shards(moved, engine, Pair(), 3), batch, 4) == 1 + 1
    assert passes(Shards(moved, engine, Team(), 1), batch, 1) == 5


class Elsewhere(Team):
    """Every second shard is calculated by the model of another process, which happens to be this one."""

    size = 2
    asked: list[str]

    def load(self, duties: Duties[C, E], config: C, threads: int, note: Callable[[str], None]) -> tuple[Policy, E]:
        """Load both models."""
        self.asked = []
        self._calculate, _ = worker._open(duties, through(Opening(config.model_dump(mode="json"), threads)))
        return duties.load(config, note, None)

    def map(
        self, policy: Policy, engine: Engine, task: Task[R], parts: Mapping[int, tuple[Any, ...]], tick: Tick
    ) -> list[R]:
        """Let the other process answer orders."""
        found, weights = [], [weight.detach() for weight in policy.parameters().values()]
        for number, part in parts.items():
            if rank_of(number, self.size) == 0:
                found.append(task(policy, engine, *part, tick=tick))
                continue
            self.asked.append(task.__name__)
            order = Order(number, weights, task.__name__, [part])
            (result,) = through(worker._answer(self._calculate, through(order))).results
            found.append(result)
        return found


@pytest.mark.parametrize("objective", [SFT, DPO, BRADLEY_TERRY], ids=KINDS)
def test_a_run_that_another_process_takes_part_in_writes_the_same_bytes(
    objective: dict[str, Any], tmp_path: Path
) -> None:
    """Three steps of four examples, and evaluations of four; each shard has a dropout of its own."""
    common = {"model": tiny(layers=1, dropout=0.1).model_dump(mode="json"), "threads": 1, "microbatch_size": 2}
    contents, other = [], Elsewhere()
    for name, team, shards in (("one", Team(), 3), ("two", other, 3), ("whole", Team(), 1)):
        run = run_of(tmp_path / name, objective, team=team, shards=shards, **common)
        train(run)
        conclude(run)
        contents.append({file: (tmp_path / name / file).read_bytes() for file in EXACT})
    assert contents[1] == contents[0]
    assert contents[2] != contents[0]
    assert {*other.asked} == {"learn_shard", "judge_shard"}
    assert other.asked.count("learn_shard") == 3


@pytest.mark.parametrize(("team", "count"), [(Elsewhere(), 2), (Team(), 1)], ids=["two", "alone"])
def test_a_run_deals_to_as_many_shards_as_it_has_processes(team: Team, count: int, tmp_path: Path) -> None:
    run = run_of(tmp_path / "out", SFT, team=team, shards="auto", threads=1)
    run.close()
    assert run.config.shards == run.shards.count == count


def test_each_shard_has_a_dropout_of_its_own_and_the_first_that_of_the_step(tmp_path: Path) -> None:
    seeds = list[list[int]]()

    class Noting(Team):
        """Notes the seeds of what is learned."""

        def map(
            self, policy: Policy, engine: Engine, task: Task[R], parts: Mapping[int, tuple[Any, ...]], tick: Tick
        ) -> list[R]:
            """Calculate all."""
            if task.__name__ == "learn_shard":
                seeds.append([part[-1] for part in parts.values()])
            return super().map(policy, engine, task, parts, tick)

    train(run_of(tmp_path / "out", SFT, team=Noting(), shards=3), until=2)
    assert [own[0] for own in seeds] == [seed_for(0, "update", step, 0) for step in range(2)]
    assert len({*seeds[0], *seeds[1]}) == 6
