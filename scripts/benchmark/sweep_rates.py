#!/usr/bin/env python
"""Count how often a sweep claims what is not so, on drawn evaluations: the tables of docs/sweeps.md.

Prompts differ by a standard deviation of 0.1, a single value by 0.2, as the J of a small model does; seeds by the `sd`
of each row. The values are differences of two points, or of a point and the reference: in truth they are 0.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping

from rlhf_cli.evaluation.contrasts import LEVEL, contrast
from rlhf_cli.evaluation.intervals import estimate
from rlhf_cli.sweep.choice import find_gains

PROMPT, REST = 0.1, 0.2
SDS = (0.0, 0.03, 0.1)
Values = Mapping[int, Mapping[int, float]]


def draw(generator: random.Random, seeds: int, prompts: int, sd: float) -> Values:
    """Values by seed and prompt with the mean 0."""
    common = [generator.gauss(0, PROMPT) for _ in range(prompts)]
    shifts = [generator.gauss(0, sd) for _ in range(seeds)]
    return {
        seed: {prompt: shift + own + generator.gauss(0, REST) for prompt, own in enumerate(common)}
        for seed, shift in enumerate(shifts)
    }


def is_clear_over_prompts(values: Values) -> bool:
    """Whether the interval over prompts alone, each averaged over the seeds, leaves out 0."""
    means = [sum(column) / len(column) for column in zip(*(row.values() for row in values.values()), strict=True)]
    found = estimate(means)
    return not found.low <= 0 <= found.high


def is_clear(values: Values) -> bool:
    """Whether a sweep calls the difference clear."""
    found = contrast(values)
    return found is not None and found.p <= LEVEL


def row(generator: random.Random, seeds: int, prompts: int, sd: float, draws: int, points: int) -> list[str]:
    """A row of the table: seeds, prompts, sd, and the rates of three claims."""
    differences = [draw(generator, seeds, prompts, sd) for _ in range(draws)]
    sweeps = [[draw(generator, seeds, prompts, sd) for _ in range(points)] for _ in range(draws // 4)]
    rates = (
        sum(map(is_clear_over_prompts, differences)) / draws,
        sum(map(is_clear, differences)) / draws,
        sum(bool(find_gains([*map(contrast, sweep)])) for sweep in sweeps) / len(sweeps),
    )
    return [str(seeds), str(prompts), f"{sd:g}", *(f"{rate:.1%}".replace("%", " %") for rate in rates)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000, help="draws of each row; a quarter of them for whole sweeps")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--points", type=int, default=16, help="points of a sweep, all equal to the reference in truth")
    options = parser.parse_args()
    family = f"any gain, {options.points} points"
    head = ["seeds", "prompts", "sd of seeds", "over prompts alone", "a clear difference", family]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for seeds in (1, 2, 3, 5):
        for sd in SDS if seeds > 1 else (0.0,):
            cells = row(random.Random(0), seeds, options.prompts, sd, options.draws, options.points)
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
