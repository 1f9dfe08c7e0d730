"""Scene a: the gradient of an expectation, estimated from samples, against the exact one."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.reinforce import Reinforce
from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.charts.pictures import Chart, Series
from rlhf_cli.demo.climb import learn, roll_out
from rlhf_cli.demo.problem import Problem
from rlhf_cli.demo.scene import Scene
from rlhf_cli.demo.soup import toy
from rlhf_cli.types import Scored

SIZES: Final = tuple(2**k for k in range(13))
"""Samples in an estimate: 1 .. 4096."""
PLAIN: Final = Reinforce(kind="reinforce", baseline="none")
WITH_BASELINE: Final = Rloo(kind="rloo")


def scene(fast: bool) -> Scene:
    """The trick, and how its error falls like 1/√n."""
    problem = toy(0.0)
    repetitions = 4 if fast else 24
    # The streams of a completion depend on its place alone: a larger rollout begins with the smaller one.
    rollouts = {
        n: [roll_out(problem, problem.engine(), 1, n, "reward", False, seed, 0) for seed in range(repetitions)]
        for n in SIZES
    }
    without = errors("no baseline", problem, rollouts, PLAIN)
    baselined = errors("mean of the others (RLOO)", problem, rollouts, WITH_BASELINE)
    one, expected = one_sample_error(problem, 0.0), float(problem.objective(problem.engine()).detach())
    law = [one / math.sqrt(n) for n in SIZES]
    picture = Chart(
        "How far the sampled gradient is from the exact one",
        "samples n",
        "error / length of the exact gradient",
        [without, baselined, Series("the law σ/√n", SIZES, law, style="dashed")],
        x_log=True,
        y_log=True,
    )
    worth = (one / one_sample_error(problem, expected)) ** 2
    return Scene(
        "6. The log-derivative trick",
        (
            "First without the regulariser. Write the expectation as a sum over the distribution; put ∇π = π ∇log π "
            "into it; the gradient is again an expectation, and samples estimate it.",
            "Subtracting a baseline b, what was to be expected, leaves the expectation as it is and removes noise.",
        ),
        "∇ E[r] = Σ_y r(x, y) ∇π(y|x)\n"
        "       = Σ_y π(y|x) r(x, y) ∇log π(y|x)\n"
        "       = E[ r(x, y) ∇log π(y|x) ]\n"
        "       = E[ (r(x, y) - b) ∇log π(y|x) ]",
        "rlhf_cli/algorithms/reinforce.py",
        (picture,),
        (
            f"Error at n = {SIZES[-1]}: {without.ys[-1]:.3f} without a baseline, where the law says {law[-1]:.3f}; "
            f"{baselined.ys[-1]:.3f} with one. A baseline of E[r] is worth {worth:.1f} times the samples.",
            f"Root mean square of {repetitions} repetitions, band: the middle 80 % of them. σ and the exact gradient "
            "come from a sum over all responses.",
        ),
    )


def errors(label: str, problem: Problem, rollouts: Mapping[int, Sequence[Scored]], algorithm: Algorithm) -> Series:
    """|estimate - exact| / |exact| of estimates from n completions, for every n that is large enough for the algorithm.

    The root mean square over the repetitions, and the middle 80 % of them.
    """
    sizes = [n for n in SIZES if n >= algorithm.min_group]
    truth = exact_gradient(problem)
    distances = torch.tensor(
        [
            [float((estimate(problem, scored, algorithm) - truth).norm() / truth.norm()) for scored in rollouts[n]]
            for n in sizes
        ]
    )
    low, high = distances.quantile(torch.tensor([0.1, 0.9]), 1)
    return Series(label, sizes, distances.square().mean(1).sqrt().tolist(), low.tolist(), high.tolist())


def exact_gradient(problem: Problem) -> Tensor:
    """The gradient of J at the reference, by autograd through the sum over all responses."""
    engine = problem.engine()
    (gradient,) = torch.autograd.grad(problem.objective(engine), engine.logits)
    return gradient


def estimate(problem: Problem, scored: Scored, algorithm: Algorithm) -> Tensor:
    """The gradient of J at the reference, as a training step estimates it from these completions."""
    engine = problem.engine()
    learn(algorithm.advantages(scored, RunningMean()), torch.arange(len(scored.scores)), algorithm, engine, "reward")
    assert engine.logits.grad is not None
    return -engine.logits.grad


def one_sample_error(problem: Problem, baseline: float) -> float:
    """σ: root mean square error of (r - b) ∇log π from one sample, over the length of the exact gradient."""
    engine = problem.engine()
    logprobs = engine.sequence_logprobs(engine.all_completions())
    truth = exact_gradient(problem)
    square = 0.0
    for logprob, score in zip(logprobs, problem.scores_of(engine).flatten(), strict=True):
        (direction,) = torch.autograd.grad(logprob, engine.logits, retain_graph=True)
        square += float(logprob.detach().exp() * ((score - baseline) * direction - truth).square().sum())
    return math.sqrt(square) / float(truth.norm())
