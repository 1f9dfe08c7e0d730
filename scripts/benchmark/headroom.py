"""Compare prompts=uniform with prompts=headroom on a task where half of the groups have no variance.

A prompt has WIDTH features, and its completions are the tokens of a vocabulary. The policy's logits are those of the
reference plus a matrix times the features, which all prompts share. Of half of the prompts the features are 0 and all
completions have one score; of the others a token's score is linear in the features, so that the optimum is a matrix
too. Training is a run's: sampling, RLOO, the weighted loss, AdamW. J of HELD_OUT other prompts is exact; the way is
from J of the untouched policy to J*.

    ends     the way that is done at the end of a run whose learning rate falls to 0
    noise    the exact noise of the gradient per completion, along such a run

The rate is the best one for uniform draws, by other seeds than those of which the results are.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, count, islice, pairwise
from statistics import fmean
from typing import Final

import torch
from torch import Tensor, nn

from rlhf_cli.data.order import PartSize, prompts_of_step
from rlhf_cli.evaluation.intervals import Estimate, estimate, with_error
from rlhf_cli.functional.returns import leave_one_out
from rlhf_cli.functional.sampling import inverse_cdf
from rlhf_cli.pipeline.update import apply
from rlhf_cli.prompts.headroom import BLOCK, Headroom, systematic
from rlhf_cli.seeding import seed_for, uniforms

PROMPTS, HELD_OUT, WIDTH, VOCABULARY, SAMPLES = 64, 256, 8, 16, 4
BETA: Final = 0.3
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


def train(
    draws: str, prompts: int, seeds: Sequence[int], lr_at: Callable[[int], float]
) -> Iterator[tuple[Tensor, Sequence[Headroom]]]:
    """Train a run of each of S seeds, all at once, with `prompts` prompts a step.

    Yields the matrices [S, WIDTH, VOCABULARY] after each step, and the estimates. A test holds them to the stages of a
    run: each run is what it would be alone, since AdamW takes each number by itself.
    """
    tasks, known = [Task.of(seed) for seed in seeds], [Headroom() for _ in seeds]
    features = torch.stack([task.features for task in tasks])
    reference = torch.stack([task.reference for task in tasks])
    scores = torch.stack([task.scores for task in tasks])
    matrix = nn.Parameter(torch.zeros(len(seeds), WIDTH, VOCABULARY, dtype=torch.float64))
    optimizer = torch.optim.AdamW([matrix], weight_decay=0.0)
    runs, adaptive = torch.arange(len(seeds)).unsqueeze(1), draws == "headroom"
    for step in count():
        drawn = [
            shown.draw(PARTS, prompts, seed, step)
            if adaptive
            else tuple((row, 1.0) for _, row in prompts_of_step(step, PARTS, prompts, seed))
            for seed, shown in zip(seeds, known, strict=True)
        ]
        own = runs, torch.tensor([[number for number, _ in one] for one in drawn])
        weights = torch.tensor([[weight for _, weight in one] for one in drawn], dtype=torch.float64)
        logits = reference[own] + features[own] @ matrix
        uniform = uniforms([seed_for(seed, "rollout", step) for seed in seeds], prompts * SAMPLES)
        spread = logits.detach().repeat_interleave(SAMPLES, 1).flatten(0, 1)
        tokens = inverse_cdf(spread, uniform.flatten(), 1.0)[0].view(len(seeds), prompts, SAMPLES)
        logprobs, theirs = (torch.log_softmax(some, -1).gather(2, tokens) for some in (logits, reference[own]))
        returns = scores[own].gather(2, tokens) - BETA * (logprobs.detach() - theirs)
        others = leave_one_out(returns.flatten(), SAMPLES, torch.ones(returns.numel(), dtype=torch.bool))
        advantages = weights.unsqueeze(2) * (returns - others.view_as(returns))
        (-(advantages * logprobs).sum() / (prompts * SAMPLES)).backward()
        apply({"matrix": matrix}, optimizer, lr_at(step), math.inf)
        if adaptive:
            groups = torch.stack([own[1], returns.var(2), weights], 2).tolist()
            known = [
                shown.observe([(int(number), variance, weight) for number, variance, weight in one], step + 1)
                for shown, one in zip(known, groups, strict=True)
            ]
        yield matrix.detach(), known


@dataclass(frozen=True, slots=True)
class Course:
    """The learning rate of a run, as by `optimizer.schedule=linear`."""

    lr: float
    """The peak."""
    steps: int
    """All steps of the run."""
    warmup: int
    """Steps over which the rate rises."""

    def __call__(self, step: int) -> float:
        """The rate of `step` (0-based)."""
        rising = step < self.warmup
        return self.lr * ((step + 1) / self.warmup if rising else (self.steps - step) / (self.steps - self.warmup))


def ends_of(draws: str, prompts: int, course: Course, seeds: Sequence[int]) -> list[float]:
    """The share of the way that is done after the last step; one of each seed."""
    *_, (matrices, _) = islice(train(draws, prompts, seeds, course), course.steps)
    return [Task.of(seed).way(matrix) for seed, matrix in zip(seeds, matrices, strict=True)]


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

    def between(self, chances: Sequence[tuple[float, float]], draws: int) -> float:
        """The part from which prompts come, for one of `draws` draws by one systematic sample.

        It is exact over the start of the sample, and a mean over ORDERS orders of the prompts.
        """
        shares, own = torch.tensor(chances, dtype=torch.float64).T
        total = 0.0
        for seed in range(ORDERS):
            order = torch.randperm(PROMPTS, generator=torch.Generator().manual_seed(seed))
            ends = [draws * end % 1 for end in accumulate(own[order].tolist())]
            edges = sorted({0.0, 1.0, *ends})  # the draws change at these starts alone
            starts = [(low + high) / 2 for low, high in pairwise(edges)]
            drawn = [systematic(own[order].tolist(), draws, start) for start in starts]
            times = torch.stack([torch.bincount(torch.tensor(one), minlength=PROMPTS) for one in drawn])
            weights = times / draws * (shares / own)[order] - shares[order]
            lengths = torch.tensor(edges, dtype=torch.float64).diff()
            total += float(lengths @ (weights @ self.means[order]).square().sum(1))
        return draws * total / ORDERS

    def least(self) -> float:
        """The part from the samples with the best chances there are, q in proportion to the root of the variance."""
        return float((self.variances.sqrt() / PROMPTS).sum() ** 2)


def noise_shares(
    seeds: Sequence[int], prompts: int, course: Course, places: Sequence[int]
) -> list[list[dict[str, float]]]:
    """The noise of a completion along runs with headroom, over that of uniform draws.

    It is after each of the steps `places`, and there of each seed. Uniform draws have none between prompts: each prompt
    comes once an epoch.
    """
    runs = islice(train("headroom", prompts, seeds, course), course.steps)
    return [
        [shares_at(Task.of(seed), *one, prompts) for seed, *one in zip(seeds, matrices, known, strict=True)]
        for step, (matrices, known) in enumerate(runs, start=1)
        if step in places
    ]


def shares_at(task: Task, matrix: Tensor, headroom: Headroom, prompts: int) -> dict[str, float]:
    """The parts of the noise of a completion at one policy with these estimates, over that of uniform draws."""
    noise, chances = Noise.at(task, matrix), headroom.chances(PARTS)
    uniform = noise.within([(p, p) for p, _ in chances])
    return {
        "within": noise.within(chances) / uniform,
        "between": noise.between(chances, prompts * BLOCK) / uniform,
        "between, steps apart": noise.between(chances, prompts) / uniform,
        "least": noise.least() / uniform,
    }


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["ends", "noise"])
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--trials", type=int, default=6, help="other seeds, by which the rate is chosen")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.2, 0.4, 0.6, 0.8], help="learning rates")
    parser.add_argument("--prompts", type=int, nargs="+", default=[9], help="prompts a step, beside uniform's 16")
    parser.add_argument("--steps", type=int, default=600, help="steps of a run")
    parser.add_argument("--warmup", type=float, default=0.1, help="the share of them over which the rate rises")
    options = parser.parse_args()
    torch.set_num_threads(1)
    courses = [Course(lr, options.steps, round(options.warmup * options.steps)) for lr in options.rates]
    course = courses[0]
    if len(courses) > 1:
        trials = range(TRIALS, TRIALS + options.trials)
        tried = {one: fmean(ends_of("uniform", 16, one, trials)) for one in courses}
        course = max(tried, key=lambda one: tried[one])
        print(f"{course} of {', '.join(f'{one.lr:g}: {way:.1%}' for one, way in tried.items())}", flush=True)
    (print_noise if options.table == "noise" else print_ends)(range(options.seeds), course, options.prompts)


def print_ends(seeds: range, course: Course, prompts: Sequence[int]) -> None:
    """The way that is done at the end, and what is left of it beside uniform draws of 16 prompts a step, by seed.

    The interval of what is left is that of the mean logarithm: near the optimum all differences in points are small.
    """
    print(
        "| prompts= | prompts a step | tokens | of the way to J* | less the first row's | left, over the first row's |"
        "\n|---|---|---|---|---|---|"
    )
    first: list[float] = []
    for draws, each in [("uniform", 16), *((name, one) for one in prompts for name in ("uniform", "headroom"))]:
        ends = ends_of(draws, each, course, seeds)
        first = first or ends
        less = estimate([100 * (own - other) for own, other in zip(ends, first, strict=True)])
        left = estimate([math.log((1 - own) / (1 - other)) for own, other in zip(ends, first, strict=True)])
        cells = f"{with_error(less, 1, '+')} points | {math.exp(left.mean):.2f} ({ends_in(left)})"
        print(
            f"| {draws} | {each} | {each / 16:.0%} | {fmean(ends):.1%} | {cells if ends is not first else '| '} |",
            flush=True,
        )


def ends_in(left: Estimate) -> str:
    """The two ends of the interval of a ratio, from that of its logarithm."""
    return f"{math.exp(left.low):.2f} to {math.exp(left.high):.2f}"


def print_noise(seeds: range, course: Course, prompts: Sequence[int]) -> None:
    """The noise of a completion along runs with headroom, over that of uniform draws; means over seeds."""
    places = [course.steps * part // 6 for part in range(1, 7)]
    for each in prompts:
        found = noise_shares(seeds, each, course, places)
        names = [*found[0][0]]
        print(f"| {each} prompts, step | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
        for step, runs in zip(places, found, strict=True):
            print(f"| {step} | {' | '.join(f'{fmean(one[name] for one in runs):.1%}' for name in names)} |", flush=True)


if __name__ == "__main__":
    main()
