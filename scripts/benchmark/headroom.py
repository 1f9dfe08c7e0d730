"""Measure the rollout tokens to one held-out J, with prompts=uniform and prompts=headroom, on a task that half waste.

A prompt has WIDTH features, and its completions are the tokens of a vocabulary. The policy's logits are those of the
reference plus a matrix times the features, which all prompts share. Of half of the prompts the features are 0 and all
completions have one score, so that their groups have no variance; of the others a token's score is linear in the
features, so that the optimum is a matrix too. Training goes through the stages of a run: sampling, RLOO, the weighted
update, AdamW at a constant rate. J of HELD_OUT other prompts is exact; the way is from J of the untouched policy
to J*.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from statistics import fmean
from typing import Final, cast

import torch
from torch import Tensor, nn

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.data.order import PartSize, prompts_of_step
from rlhf_cli.engine.reading import measure_distance
from rlhf_cli.engine.tabular import TabularEngine
from rlhf_cli.evaluation.intervals import estimate
from rlhf_cli.functional.returns import token_rewards
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.pipeline.scoring import group_variances
from rlhf_cli.pipeline.update import accumulate_gradient, apply
from rlhf_cli.prompts.headroom import Headroom
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import PromptBatch, Scored

PROMPTS, HELD_OUT, WIDTH, VOCABULARY, SAMPLES = 64, 256, 8, 16, 4
BETA: Final = 0.3
REACHED: Final = 0.9
LAST: Final = 20
"""Steps whose mean is the end of a run."""
RLOO: Final = Rloo(kind="rloo")
PARTS: Final = (PartSize("", 1.0, PROMPTS),)


@dataclass(frozen=True, slots=True)
class Task:
    """Prompts to train on and to hold out."""

    features: Tensor
    """[N, WIDTH]: of the prompts to train on, then of those held out."""
    reference: Tensor
    """[N, VOCABULARY]: logits."""
    scores: Tensor
    """[N, VOCABULARY]"""

    @staticmethod
    def of(seed: int) -> Task:
        """A random one: scores spread by about 1 in a prompt."""
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        rows = PROMPTS + HELD_OUT
        features = draw(rows, WIDTH) / math.sqrt(WIDTH)
        features[::2] = 0.0
        return Task(features, draw(rows, VOCABULARY), features @ draw(WIDTH, VOCABULARY) + draw(rows, 1))

    def objective(self, matrix: Tensor) -> float:
        """J of the held-out prompts."""
        rows = slice(PROMPTS, None)
        theirs = torch.log_softmax(self.reference[rows], -1)
        ours = torch.log_softmax(self.reference[rows] + self.features[rows] @ matrix, -1)
        return float((ours.exp() * (self.scores[rows] - BETA * (ours - theirs))).sum(1).mean())

    def best(self) -> float:
        """J* of the held-out prompts."""
        theirs = torch.log_softmax(self.reference[PROMPTS:], -1)
        return float(BETA * torch.logsumexp(theirs + self.scores[PROMPTS:] / BETA, 1).mean())


def train(draws: str, prompts: int, lr: float, seed: int) -> Iterator[float]:
    """Train with `prompts` prompts a step, and yield after each the share of the way to J* that is done."""
    task, headroom = Task.of(seed), Headroom()
    matrix = nn.Parameter(torch.zeros(WIDTH, VOCABULARY, dtype=torch.float64))
    engine = TabularEngine(task.reference[:PROMPTS].unsqueeze(1))
    optimizer = torch.optim.AdamW([matrix], weight_decay=0.0)
    start, best = task.objective(matrix.detach()), task.best()
    for step in count():
        # no parameter, but what the engine reads as one: the gradient flows on to the matrix
        engine.logits = cast("nn.Parameter", (task.reference + task.features @ matrix)[:PROMPTS].unsqueeze(1))
        chosen = headroom.draw(PARTS, prompts, seed, step) if draws == "headroom" else ()
        numbers = [number for number, _ in chosen] or [row for _, row in prompts_of_step(step, PARTS, prompts, seed)]
        scored = roll_out(task, engine, numbers, chosen, seed, step)
        accumulate_gradient(
            RLOO.advantages(scored, RunningMean()),
            torch.arange(len(scored.scores)),
            RLOO,
            engine,
            kl="reward",
            max_new_tokens=1,
            microbatch_size=len(scored.scores),
            tick=lambda: None,
        )
        apply({"matrix": matrix}, optimizer, lr, math.inf)
        headroom = headroom.observe(group_variances(scored, "reward")) if chosen else headroom
        yield (task.objective(matrix.detach()) - start) / (best - start)


def tokens_needed(draws: str, prompts: int, lr: float, seed: int, most: int) -> float:
    """The tokens that a run samples until it has done REACHED of the way; NaN after `most` tokens."""
    each = prompts * SAMPLES
    run = islice(train(draws, prompts, lr, seed), most // each)
    return next((step * each for step, done in enumerate(run, start=1) if done >= REACHED), math.nan)


def roll_out(
    task: Task,
    engine: TabularEngine,
    numbers: Sequence[int],
    draws: tuple[tuple[int, float], ...],
    seed: int,
    step: int,
) -> Scored:
    """Sample and score a group of each of these prompts."""
    rows = len(numbers) * SAMPLES
    seeds = tuple(seed_for(seed, "rollout", step, row) for row in range(rows))
    batch = PromptBatch(tuple(engine.prompts[number] for number in numbers), SAMPLES, seeds, draws)
    rollout = engine.sample(batch, Sampling(1, 1.0), lambda: None)
    scores = task.scores[torch.tensor(numbers).repeat_interleave(SAMPLES), rollout.tokens[:, 0]]
    distance = measure_distance(rollout, engine, rows, lambda: None)
    return Scored(
        rollout=rollout,
        scores=scores,
        distance=distance,
        beta=BETA,
        rewards=token_rewards(scores, distance.kl, BETA, rollout.completion_mask),
        learnable=torch.ones_like(rollout.truncated),
    )


def main() -> None:
    """Print one of the two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.2, 0.4], help="learning rates")
    parser.add_argument("--prompts", type=int, nargs="+", default=[8, 9, 10], help="prompts a step with headroom")
    parser.add_argument("--uniform", type=int, default=16, help="prompts a step with uniform draws")
    parser.add_argument("--steps", type=int, default=150, help="steps of a run")
    parser.add_argument("--most", type=int, help="print the tokens to the level instead, up to so many")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(options.seeds)
    if options.most:
        print_tokens(seeds, options.rates, options.uniform, options.most)
    else:
        print_ends(seeds, options.rates, options.uniform, options.prompts, options.steps)


def print_ends(seeds: range, rates: Sequence[float], uniform: int, prompts: Sequence[int], steps: int) -> None:
    """The way that is done at the end of as many steps, with fewer prompts a step drawn by headroom."""
    print("| lr | prompts= | prompts a step | tokens | of the way to J* | less uniform's, paired by seed |")
    print("|---|---|---|---|---|---|")
    for lr in rates:
        base: list[float] = []
        for draws, each in (("uniform", uniform), *(("headroom", one) for one in prompts)):
            ends = [fmean([*islice(train(draws, each, lr, seed), steps)][-LAST:]) for seed in seeds]
            base = base or ends
            less = estimate([100 * (own - other) for own, other in zip(ends, base, strict=True)])
            end = f"{less.mean:+.1f} ± {less.half_width:.1f} points" if draws == "headroom" else ""
            print(f"| {lr:g} | {draws} | {each} | {each / uniform:.0%} | {fmean(ends):.1%} | {end} |", flush=True)


def print_tokens(seeds: range, rates: Sequence[float], prompts: int, most: int) -> None:
    """The tokens to the level with as many prompts a step, each at its best learning rate."""
    best = {}
    for draws in ("uniform", "headroom"):
        tried = {lr: [tokens_needed(draws, prompts, lr, seed, most) for seed in seeds] for lr in rates}
        lr = min(tried, key=lambda rate: _mean(tried[rate]))
        best[draws] = tried[lr]
        print(f"{draws}: {_mean(tried[lr]):,.0f} tokens to {REACHED:.0%} at lr={lr:g}", flush=True)
    print(f"headroom takes {share(best['headroom'], best['uniform'])} of uniform's, paired by seed")


def _mean(needed: Sequence[float]) -> float:
    """Infinite where a seed never got there."""
    return math.inf if any(map(math.isnan, needed)) else fmean(needed)


def share(some: Sequence[float], others: Sequence[float]) -> str:
    """The geometric mean of the ratios, with its 95 % interval over seeds."""
    logs = estimate([math.log(one / other) for one, other in zip(some, others, strict=True)])
    return f"{math.exp(logs.mean):.0%} [{math.exp(logs.low):.0%}, {math.exp(logs.high):.0%}]"


if __name__ == "__main__":
    main()
