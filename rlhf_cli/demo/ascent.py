"""Run an algorithm on the toy, and record J and the policy exactly at every step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.charts.pictures import Series
from rlhf_cli.demo.climb import climb
from rlhf_cli.demo.soup import expected_reward, probabilities, toy
from rlhf_cli.engine.tabular import TabularEngine

SAMPLES: Final = 16
"""Completions of a step."""


@dataclass(frozen=True, slots=True)
class Ascent:
    """A run from the reference to its last step. Its lists begin before the first step."""

    objective: Sequence[float]
    """J, exactly."""
    policy: Sequence[Sequence[float]]
    """The probability of every response."""
    clip_fraction: Sequence[float]
    """One value a step, so one less than above; nan for algorithms that do not clip."""
    reward: float
    """E[r] at the end."""
    kl: float
    """KL(policy || reference) at the end, nats."""
    percent: float
    """Percent of the gap between the reference's J and J* that was closed; nan for beta 0, which has no J*."""


def ascend(algorithm: Algorithm, beta: float, steps: int, seed: int) -> Ascent:
    """Climb J of the toy from the reference, on samples alone."""
    problem = toy(beta)
    objective: list[float] = []
    policy: list[list[float]] = []
    clipped: list[float] = []

    def note(engine: TabularEngine) -> None:
        objective.append(float(problem.objective(engine).detach()))
        policy.append(probabilities(engine))

    def watch(step: int, engine: TabularEngine, metrics: Mapping[str, float]) -> None:
        note(engine)
        clipped.append(metrics.get("policy/clip_fraction", math.nan))

    note(problem.engine())
    engine = climb(
        problem, algorithm, steps=steps, prompts_per_step=1, samples_per_prompt=SAMPLES, lr=0.1, seed=seed, watch=watch
    )
    percent = problem.percent(engine) if beta else math.nan
    return Ascent(objective, policy, clipped, expected_reward(engine), problem.kl(engine), percent)


def curve(label: str, runs: Sequence[Ascent], until: int | None = None) -> Series:
    """Mean and range of J over the runs at every step up to `until`."""
    columns = list(zip(*(run.objective for run in runs), strict=True))[: None if until is None else until + 1]
    means = [sum(column) / len(column) for column in columns]
    return Series(label, range(len(columns)), means, [*map(min, columns)], [*map(max, columns)])
