"""Measure how much less the effect of a change varies between a fork and its parent than between runs of other seeds.

Each seed trains a parent, and forks of it in the middle, each with one change. The effect of a change is the fork's
held-out figure minus the parent's: of the same seed (the fork), or of two seeds (independent runs). With spreads s and
S over seeds of parent and fork, and a correlation c between the two, the ratio of these variances is

    (s^2 + S^2) / (s^2 + S^2 - 2 c s S) <= (s^2 + S^2) / (s - S)^2

so a change that alters the spread itself has a limit that no common random numbers exceed. docs/fork.md has the table.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import correlation, fmean, stdev
from typing import NamedTuple

from rlhf_cli.cli import run
from rlhf_cli.runs.reading import read_first_and_last

ALWAYS = "checkpoint.keep=9", "beta=0.05", "sinks=[]", "resume=auto", "display=quiet"


class Task(NamedTuple):
    """Runs to compare."""

    settings: tuple[str, ...]
    """Of the parents."""
    middle: int
    """The step where forks begin."""
    changes: tuple[str, ...]


TASKS = {
    "tiny": Task(
        ("config=tiny", "steps=30", "evaluate.every=15", "evaluate.samples=16", "checkpoint.every=15",
         "optimizer.lr=3.0e-3"),
        15,
        ("beta=0.1", "optimizer.lr=2.0e-3", "temperature=1.2"),
    ),
    "sentiment": Task((), 16, ("beta=0.1", "temperature=1.2")),
}  # fmt: skip
BETA = 0.05
"""J of all runs is at this beta: it is the yardstick, and no part of the change."""


def figures(folder: Path) -> dict[str, float]:
    """J, reward, KL and its logarithm, of the last held-out evaluation."""
    last = read_first_and_last(folder)[1]
    assert last is not None
    reward, kl = last.means()
    return {"J": reward - BETA * kl, "reward": reward, "KL": kl, "log KL": math.log(kl)}


def compare(parents: Sequence[float], forks: Sequence[float]) -> str:
    """The cells of a row: mean effect and its sd by a fork, both spreads, the correlation, the ratio and its limit."""
    effects, one, other = [b - a for a, b in zip(parents, forks, strict=True)], stdev(parents), stdev(forks)
    own, both, least = stdev(effects), one**2 + other**2, (one - other) ** 2
    cells = f"{fmean(effects):+.4f} | {own:.4f} | {one:.4f} | {other:.4f} | {correlation(parents, forks):.2f}"
    return f"{cells} | {both / own**2:.1f} | {both / least:.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Compare the variance of effects: forks against independent seeds.")
    parser.add_argument("--task", choices=TASKS, default="tiny")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--folder", type=Path, required=True, help="holds the runs; the same command goes on in it")
    options = parser.parse_args()
    settings, middle, changes = TASKS[options.task]
    found: dict[str, list[dict[str, float]]] = {change: [] for change in ("", *changes)}
    for seed in range(options.seeds):
        parent = (options.folder / f"seed-{seed}").absolute()
        assert run(["train", *settings, *ALWAYS, f"seed={seed}", f"run_dir={parent}"]) == 0
        found[""].append(figures(parent))
        for change in changes:
            fork = parent.with_name(f"{parent.name}-{change}")
            assert run(["fork", f"{parent}@{middle}", change, f"run_dir={fork}"]) == 0
            found[change].append(figures(fork))
    titles = "change", "figure", "mean effect", "sd of it, by a fork", "of parents", "of forks", "correlation"
    print(f"| {' | '.join(titles)} | variance, two seeds over fork | its limit |\n{'|---' * 9}|")
    for change in changes:
        for name in found[change][0]:
            columns = [[each[name] for each in found[key]] for key in ("", change)]
            print(f"| `{change}` | {name} | {compare(*columns)} |", flush=True)


if __name__ == "__main__":
    main()
