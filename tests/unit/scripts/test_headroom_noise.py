"""scripts/benchmark/headroom.py: the exact noise of the gradient, and what prompts=headroom leaves of it."""

from __future__ import annotations

from itertools import islice, product
from math import inf, prod
from statistics import fmean
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.data.order import prompts_of_step
from rlhf_cli.engine.reading import measure_distance
from rlhf_cli.engine.tabular import TabularEngine
from rlhf_cli.functional.returns import token_rewards
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.pipeline.scoring import group_variances
from rlhf_cli.pipeline.update import apply
from rlhf_cli.prompts.headroom import Headroom
from rlhf_cli.ranks.gradient import accumulate_gradient
from rlhf_cli.schedules.optimizer import AdamW
from rlhf_cli.seeding import seed_for, uniforms
from rlhf_cli.types import PromptBatch, Scored
from tests.scripts import load_beside

headroom = load_beside("benchmark/headroom.py")


def run_by_stages(draws: str, seed: int, steps: int) -> tuple[Tensor, Headroom]:
    """The matrix [WIDTH, VOCABULARY] and the estimates of a run of 5 prompts a step, by the stages of `rlhf train`."""
    task, shown, rloo = headroom.Task.of(seed), Headroom(), Rloo(kind="rloo")
    matrix = nn.Parameter(torch.zeros(headroom.WIDTH, headroom.VOCABULARY, dtype=torch.float64))
    engine = TabularEngine(task.reference[: headroom.PROMPTS].unsqueeze(1))
    optimizer = torch.optim.AdamW([matrix], weight_decay=0.0)
    rows = 5 * headroom.SAMPLES
    for step in range(steps):
        # no parameter, but what the engine reads as one: the gradient flows on to the matrix
        logits = (task.reference + task.features @ matrix)[: headroom.PROMPTS].unsqueeze(1)
        engine.logits = cast("nn.Parameter", logits)
        chosen = shown.draw(headroom.PARTS, 5, seed, step) if draws == "headroom" else ()
        numbers = [n for n, _ in chosen] or [n for _, n in prompts_of_step(step, headroom.PARTS, 5, seed)]
        stream = seed_for(seed, "rollout", step)
        batch = PromptBatch(
            tuple(engine.prompts[number] for number in numbers), headroom.SAMPLES, (stream,) * rows, chosen
        )
        rollout = engine.sample(batch, Sampling(1, 1.0), lambda: None)
        scores = task.scores[torch.tensor(numbers).repeat_interleave(headroom.SAMPLES), rollout.tokens[:, 0]]
        distance = measure_distance(rollout, engine, rows, lambda: None)
        scored = Scored(
            rollout=rollout,
            scores=scores,
            distance=distance,
            beta=headroom.BETA,
            rewards=token_rewards(scores, distance.kl, headroom.BETA, rollout.completion_mask),
            learnable=torch.ones_like(rollout.truncated),
        )
        accumulate_gradient(
            rloo.advantages(scored, RunningMean()),
            torch.arange(rows),
            rloo,
            engine,
            kl="reward",
            max_new_tokens=1,
            microbatch_size=rows,
            tick=lambda: None,
        )
        apply({"matrix": matrix}, optimizer, 0.1, inf)
        shown = shown.observe(group_variances(scored, "reward"), step + 1) if chosen else shown
    return matrix.detach(), shown


@pytest.mark.parametrize("draws", ["uniform", "headroom"])
def test_runs_are_those_of_the_stages(draws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of several seeds at once are what `rlhf train` would make of each, but for the streams of its completions.

    The script has one a step, since a generator takes longer than the rest of a completion.
    """
    monkeypatch.setattr("rlhf_cli.engine.tabular.uniforms", lambda seeds, _: uniforms(seeds[:1], len(seeds)).T)
    *_, (matrices, known) = islice(headroom.train(draws, 5, [3, 8], lambda _: 0.1), 18)
    for seed, matrix, shown in zip([3, 8], matrices, known, strict=True):
        expected, estimates = run_by_stages(draws, seed, 18)
        assert float(expected.abs().max()) > 0.5
        torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-9)
        assert shown.groups == estimates.groups
        assert shown.variances == pytest.approx(estimates.variances, rel=1e-9)


@pytest.mark.parametrize("samples", [2, 3])
def test_moments_are_those_of_every_group(samples: int) -> None:
    logits, returns = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    chances = logits.softmax(0)
    mean, square = torch.zeros(4, dtype=torch.float64), 0.0
    for group in map(list, product(range(4), repeat=samples)):
        own = returns[group]
        advantages = own - (own.sum() - own) / (samples - 1)
        gradient = (advantages.unsqueeze(1) * (torch.eye(4, dtype=torch.float64)[group] - chances)).mean(0)
        weight = prod(chances[group].tolist())
        mean += weight * gradient
        square += weight * float(gradient.square().sum())
    found = headroom.group_moments(logits.unsqueeze(0), returns.unsqueeze(0), samples)
    torch.testing.assert_close(found[0][0], mean)
    assert float(found[1]) == pytest.approx(square - float(mean.square().sum()))


def test_no_chances_have_less_noise_than_the_roots_of_the_variances() -> None:
    noise = headroom.Noise.at(headroom.Task.of(0), torch.zeros(8, 16, dtype=torch.float64))
    roots = (noise.variances.sqrt() + 1e-9).tolist()
    best = [(1 / 64, root / sum(roots)) for root in roots]
    assert noise.within(best) == pytest.approx(noise.least(), rel=1e-6)
    assert noise.least() < 0.5 * noise.within([(1 / 64, 1 / 64)] * 64)


def test_uniform_draws_have_no_noise_between_prompts_in_an_epoch() -> None:
    noise = headroom.Noise.at(headroom.Task.of(0), torch.zeros(8, 16, dtype=torch.float64))
    alike = [(1 / 64, 1 / 64)] * 64
    assert noise.between(alike, 64) < 1e-20
    one = float((noise.means - noise.means.mean(0)).square().sum(1).mean())  # of independent draws
    assert noise.between(alike, 1) == pytest.approx(one)
    assert 0 < noise.between(alike, 8) < one


def test_sixty_percent_of_the_completions_have_the_noise_of_all() -> None:
    """The figure of docs/data.md, where half of the groups have no variance."""
    found = [one for runs in headroom.noise_shares(range(3), 8, headroom.Course(0.2, 100, 0), [40, 80]) for one in runs]
    assert fmean(one["within"] + one["between"] for one in found) < 0.6
    assert fmean(one["between, steps apart"] / one["between"] for one in found) > 3


def test_nine_prompts_have_the_noise_of_sixteen_at_the_end_of_a_long_run() -> None:
    """Of a completion, over that of uniform draws."""
    found = headroom.noise_shares(range(6), 9, headroom.Course(0.6, 600, 60), [600])[0]
    assert fmean(one["within"] + one["between"] for one in found) < 9 / 16


def test_the_rate_rises_and_falls_as_that_of_a_run() -> None:
    course = headroom.Course(0.5, 10, 4)
    ours = AdamW(
        kind="adamw",
        lr=0.5,
        schedule="linear",
        warmup_steps=4,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.0,
        max_grad_norm=1.0,
    )
    assert [course(step) for step in range(10)] == pytest.approx([ours.lr_at(step, 10) for step in range(10)])
    assert headroom.Course(0.5, 10, 0)(0) == ours.lr
