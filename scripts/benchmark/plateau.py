#!/usr/bin/env python
"""Count false stops of `stop.plateau` on simulated runs that are looked at after every evaluation: docs/doctor.md.

Numbers alone, no model. A run gains J evaluation by evaluation; a stop is false where the second half of the run so
far has in truth gained as much as was asked for, or more. The last column looks at the same runs with a t interval of
95 % each time.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Sequence
from statistics import fmean, median

from rlhf_cli.evaluation.intervals import standard_error, t_quantile
from rlhf_cli.evaluation.plateau import LEAST, LEVEL, bound

PROMPTS, LOOKS, ASKED = 64, 40, 0.05
Table = list[list[float]]
"""J by evaluation and prompt."""


def draw(of: random.Random, truth: Sequence[float], noise: str) -> Table:
    """A run whose mean J is `truth`: prompts of their own level, and one kind of noise."""
    levels = [of.gauss(0, 0.3) for _ in range(PROMPTS)]
    slopes = [of.gauss(0, 1) if noise == "slopes" else 0.0 for _ in range(PROMPTS)]
    walks, table = [0.0] * PROMPTS, []
    for number, mean in enumerate(truth):
        if noise == "walk":
            walks = [walk + of.gauss(0, 0.02) for walk in walks]
        fresh = [of.gauss(0, 0.1) if noise != "skewed" else 0.1 * (of.expovariate(1) - 1) for _ in range(PROMPTS)]
        parts = zip(levels, slopes, walks, fresh, strict=True)
        table.append([mean + level + 0.005 * number * slope + walk + new for level, slope, walk, new in parts])
    return table


def union(table: Table, now: int, since: int) -> float:
    """The bound of stop.plateau."""
    return bound(gains(table, since, now), now + 1 - LEAST)[1]


def t_interval(table: Table, now: int, since: int) -> float:
    """The upper end of a one-sided t interval of 95 %, as if this were the only look."""
    values = gains(table, since, now)
    return fmean(values) + t_quantile(1 - LEVEL, PROMPTS - 1) * standard_error(values)


def gains(table: Table, since: int, now: int) -> list[float]:
    """The gain of every prompt."""
    return [new - old for old, new in zip(table[since], table[now], strict=True)]


def first_stop(table: Table, upper: Callable[[Table, int, int], float]) -> int | None:
    """The evaluation at which a rule would stop; None: never."""
    for now in range(LEAST, len(table)):
        if upper(table, now, now // 2) < ASKED:
            return now
    return None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=400, help="runs of each row")
    options = parser.parse_args()
    rules = {"stop.plateau": union, "t interval, peeked": t_interval}
    # each half gains exactly what is asked for: log2 growth, so that every look is at the limit
    edge = [ASKED * math.log2(max(number, 0.5)) for number in range(LOOKS + 1)]
    flat = [0.2 * min(number, 5) for number in range(LOOKS + 1)]
    rows = {"gains as much as asked": edge, "gains nothing after 5": flat}
    print(f"| run | noise | {' | '.join(rules)} |\n|---|---|{'---|' * len(rules)}")
    for title, truth in rows.items():
        for noise in ("fresh", "walk", "slopes", "skewed"):
            of = random.Random(noise)
            tables = [draw(of, truth, noise) for _ in range(options.runs)]
            cells = []
            for rule in rules.values():
                stops = [first_stop(table, rule) for table in tables]
                right = [stop for stop in stops if stop is not None]
                wrong = sum(stop is not None and truth[stop] - truth[stop // 2] >= ASKED - 1e-9 for stop in stops)
                late = f", at evaluation {median(right):g}" if right and truth is flat else ""
                cells.append(f"{wrong} false" if truth is edge else f"{len(right)} stops{late}")
            print(f"| {title} | {noise} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
