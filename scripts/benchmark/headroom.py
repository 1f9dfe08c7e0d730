"""Compare prompts=uniform with prompts=headroom on a task where half of the groups have no variance.

A prompt has WIDTH features, and its completions are the tokens of a vocabulary. The policy's logits are those of the
reference plus a matrix times the features, which all prompts share. Of half of the prompts the features are 0 and all
completions have one score; of the others a token's score is linear in the features, so that the optimum is a matrix
too. Training goes through the stages of a run: sampling, RLOO, the weighted update, AdamW. J of HELD_OUT other prompts
is exact; the way is from J of the untouched policy to J*.

    ends     the way that is done at the end of a run whose learning rate falls to 0
    noise    the exact noise of the gradient per completion, along such a run

The rate is the best one for uniform draws, by other seeds than those of which the results are.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise
from statistics import fmean
from typing import Final, cast

import torch
from torch import Tensor, nn

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.data.order import PartSize, prompts_of_step
from rlhf_cli.engine.reading import measure_distance
from rlhf_cli.engine.tabular import TabularEngine
from rlhf_cli.evaluation.intervals import estimate, with_error
from rlhf_cli.functional.returns import token_rewards
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.pipeline.scoring import group_variances
from rlhf_cli.pipeline.update import apply
from rlhf_cli.prompts.headroom import BLOCK, Headroom, systematic
from rlhf_cli.ranks.gradient import accumulate_gradient
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import PromptBatch, Scored

PROMPTS, HELD_OUT, WIDTH, VOCABULARY, SAMPLES = 64, 256, 8, 16, 4
BETA: Final = 0.3
RLOO: Final = Rloo(kind="rloo")
PARTS: Final = (PartSize("", 1.0, PROMPTS),)
TRIALS: Final = 1000
"""The first seed of the runs that choose the learning rate."""
ORDERS: Final = 10
"""Random orders of the prompts over which the noise between prompts is averaged."""


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

    def way(self, matrix: Tensor) -> float:
        """The share of the way from J of the reference to J* that is done on the held-out prompts; 1 at the optimum."""
        theirs = torch.log_softmax(self.reference[PROMPTS:], -1)
        ours = torch.log_softmax(self.reference[PROMPTS:] + self.features[PROMPTS:] @ matrix, -1)
        scores = self.scores[PROMPTS:]
        reached = (ours.exp() * (scores - BETA * (ours - theirs))).sum(1).mean()
        start = (theirs.exp() * scores).sum(1).mean()
        best = BETA * torch.logsumexp(theirs + scores / BETA, 1).mean()
        return float((reached - start) / (best - start))


def train(draws: str, prompts: int, seed: int, lr_at: Callable[[int], float]) -> Iterator[tuple[Tensor, Headroom]]:
    """Train with `prompts` prompts a step; yield the matrix after each, and the estimates."""
    task, headroom, step = Task.of(seed), Headroom(), 0
    matrix = nn.Parameter(torch.zeros(WIDTH, VOCABULARY, dtype=torch.float64))
    engine = TabularEngine(task.reference[:PROMPTS].unsqueeze(1))
    optimizer = torch.optim.AdamW([matrix], weight_decay=0.0)
    while True:
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
        apply({"matrix": matrix}, optimizer, lr_at(step), math.inf)
        step += 1
        headroom = headroom.observe(group_variances(scored, "reward"), step) if chosen else headroom
        yield matrix.detach(), headroom


def falling(lr: float, steps: int) -> Callable[[int], float]:
    """The learning rate of each step of `optimizer.schedule=linear`."""
    return lambda step: lr * (1 - step / steps)


def end_of(draws: str, prompts: int, lr: float, seed: int, steps: int) -> float:
    """The share of the way that is done after the last of `steps` steps, with a falling rate."""
    *_, (matrix, _) = islice(train(draws, prompts, seed, falling(lr, steps)), steps)
    return Task.of(seed).way(matrix)


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


def group_moments(logits: Tensor, returns: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Mean [N, V] and variance [N], the trace, of the RLOO gradient of a group with respect to the logits [N, V].

    With a = R - E[R] [N, V], phi = e_y - pi and n samples the gradient is h = 1/n sum_i (a_i - mean_{j != i} a_j)
    phi_i. As E[a] = 0 and E[phi] = 0, E[h] = E[a phi] = g, and of the products most are 0:

        E|h|^2 = (E[a^2 |phi|^2] + E[a^2] E|phi|^2 / (n - 1)) / n + (n - 1) / n (1 + 1 / (n - 1)^2) |g|^2
    """
    chances = torch.softmax(logits, -1)
    centred = returns - (chances * returns).sum(-1, keepdim=True)
    mean = chances * centred
    squares = 1 - 2 * chances + chances.square().sum(-1, keepdim=True)
    alone = (chances * centred**2 * squares).sum(-1)
    apart = (chances * centred**2).sum(-1) * (chances * squares).sum(-1)
    length, others = mean.square().sum(-1), samples - 1
    return mean, (alone + apart / others) / samples + (others / samples * (1 + 1 / others**2) - 1) * length


@dataclass(frozen=True, slots=True)
class Noise:
    """Exact noise of the gradient of the matrix at one policy, a group of SAMPLES completions being 1 draw."""

    variances: Tensor
    """[PROMPTS]: of a group's gradient around its prompt's mean."""
    means: Tensor
    """[PROMPTS, WIDTH x VOCABULARY]"""

    @staticmethod
    def at(task: Task, matrix: Tensor) -> Noise:
        """The moments of each prompt to train on."""
        reference, features = task.reference[:PROMPTS], task.features[:PROMPTS]
        logits = reference + features @ matrix
        returns = task.scores[:PROMPTS] - BETA * (torch.log_softmax(logits, -1) - torch.log_softmax(reference, -1))
        mean, variance = group_moments(logits, returns, SAMPLES)
        return Noise(variance * features.square().sum(1), (features.unsqueeze(2) * mean.unsqueeze(1)).flatten(1))

    def within(self, chances: Sequence[tuple[float, float]]) -> float:
        """The part from the samples, for one draw: sum_x p_x^2 / q_x v_x."""
        shares, own = torch.tensor(chances, dtype=torch.float64).T
        return float((shares**2 / own * self.variances).sum())

    def between(self, chances: Sequence[tuple[float, float]], count: int) -> float:
        """The part from which prompts come, for one of `count` draws by one systematic sample.

        It is exact over the start of the sample, and a mean over ORDERS orders of the prompts.
        """
        shares, own = torch.tensor(chances, dtype=torch.float64).T
        total = 0.0
        for seed in range(ORDERS):
            order = torch.randperm(PROMPTS, generator=torch.Generator().manual_seed(seed))
            ends = [count * end % 1 for end in accumulate(own[order].tolist())]
            edges = sorted({0.0, 1.0, *ends})  # the draws change at these starts alone
            starts = [(low + high) / 2 for low, high in pairwise(edges)]
            drawn = [systematic(own[order].tolist(), count, start) for start in starts]
            times = torch.stack([torch.bincount(torch.tensor(one), minlength=PROMPTS) for one in drawn])
            weights = times / count * (shares / own)[order] - shares[order]
            lengths = torch.tensor(edges, dtype=torch.float64).diff()
            total += float(lengths @ (weights @ self.means[order]).square().sum(1))
        return count * total / ORDERS

    def least(self) -> float:
        """The part from the samples with the best chances there are, q in proportion to the root of the variance."""
        return float((self.variances.sqrt() / PROMPTS).sum() ** 2)


def noise_shares(seed: int, prompts: int, lr: float, steps: int, places: Sequence[int]) -> list[dict[str, float]]:
    """The noise of a completion after each of the steps `places` of a run with headroom, over that of uniform draws.

    Uniform draws have none between prompts: each prompt comes once an epoch.
    """
    task, found = Task.of(seed), []
    run = islice(train("headroom", prompts, seed, falling(lr, steps)), steps)
    for step, (matrix, headroom) in enumerate(run, start=1):
        if step in places:
            noise, chances = Noise.at(task, matrix), headroom.chances(PARTS)
            uniform = noise.within([(p, p) for p, _ in chances])
            found.append(
                {
                    "within": noise.within(chances) / uniform,
                    "between": noise.between(chances, prompts * BLOCK) / uniform,
                    "between, steps apart": noise.between(chances, prompts) / uniform,
                    "least": noise.least() / uniform,
                }
            )
    return found


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["ends", "noise"])
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--trials", type=int, default=6, help="other seeds, by which the rate is chosen")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.2, 0.4, 0.8], help="learning rates")
    parser.add_argument("--prompts", type=int, nargs="+", default=[9], help="prompts a step, beside uniform's 16")
    parser.add_argument("--steps", type=int, default=150, help="steps of a run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lr = options.rates[0]
    if len(options.rates) > 1:
        trials = range(TRIALS, TRIALS + options.trials)
        tried = {
            rate: fmean(end_of("uniform", 16, rate, seed, options.steps) for seed in trials) for rate in options.rates
        }
        lr = max(tried, key=lambda rate: tried[rate])
        print(f"lr={lr:g} of {', '.join(f'{rate:g}: {way:.1%}' for rate, way in tried.items())}", flush=True)
    if options.table == "noise":
        print_noise(range(options.seeds), lr, options.steps)
    else:
        print_ends(range(options.seeds), lr, options.prompts, options.steps)


def print_ends(seeds: range, lr: float, prompts: Sequence[int], steps: int) -> None:
    """The way that is done at the end, less that of uniform draws of 16 prompts a step, paired by seed."""
    print("| prompts= | prompts a step | tokens | of the way to J* | less the first row's |\n|---|---|---|---|---|")
    first: list[float] = []
    for draws, each in [("uniform", 16), *((name, one) for one in prompts for name in ("uniform", "headroom"))]:
        ends = [end_of(draws, each, lr, seed, steps) for seed in seeds]
        first = first or ends
        less = estimate([100 * (own - other) for own, other in zip(ends, first, strict=True)])
        cell = f"{with_error(less, 1, '+')} points" if ends is not first else ""
        print(f"| {draws} | {each} | {each / 16:.0%} | {fmean(ends):.1%} | {cell} |", flush=True)


def print_noise(seeds: range, lr: float, steps: int) -> None:
    """The noise of a completion along runs with headroom, over that of uniform draws; means over seeds."""
    places = [steps * part // 6 for part in range(1, 7)]
    runs = [noise_shares(seed, 8, lr, steps, places) for seed in seeds]
    names = [*runs[0][0]]
    print(f"| step | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for number, step in enumerate(places):
        cells = [f"{fmean(run[number][name] for run in runs):.1%}" for name in names]
        print(f"| {step} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
