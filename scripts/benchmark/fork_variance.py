"""Measure how much less the effect of a change varies between a fork and its parent than between runs of other seeds.

Each seed trains a parent, and forks of it in the middle, each with one change. The effect of a change is the fork's
held-out figure minus the parent's: of the same seed (the fork), or of two seeds (independent runs). docs/fork.md has
the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, variance

from rlhf_cli.cli import run
from rlhf_cli.runs.reading import read_first_and_last

SETTINGS = ("config=tiny", "steps=30", "evaluate.every=15", "evaluate.samples=16", "checkpoint.every=15",
            "checkpoint.keep=9", "optimizer.lr=3.0e-3", "beta=0.05", "sinks=[]", "resume=auto",
            "display=quiet")  # fmt: skip
CHANGES = ("beta=0.1", "optimizer.lr=2.0e-3", "temperature=1.2")
BETA = 0.05
"""J of all runs is at this beta: it is the yardstick, and no part of the change."""


def figures(folder: Path) -> dict[str, float]:
    """J, reward and KL of the last held-out evaluation."""
    last = read_first_and_last(folder)[1]
    assert last is not None
    reward, kl = last.means()
    return {"J": reward - BETA * kl, "reward": reward, "KL": kl}


def ratio(parents: Sequence[float], forks: Sequence[float]) -> tuple[float, float, float]:
    """The mean effect, its standard deviation with a fork, and the variance between two seeds over that of a fork."""
    effects = [fork - parent for parent, fork in zip(parents, forks, strict=True)]
    return fmean(effects), variance(effects) ** 0.5, (variance(parents) + variance(forks)) / variance(effects)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Compare the variance of effects: forks against independent seeds.")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--folder", type=Path, required=True, help="holds the runs; the same command goes on in it")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {change: [] for change in ("", *CHANGES)}
    for seed in range(options.seeds):
        parent = (options.folder / f"seed-{seed}").absolute()
        assert run(["train", *SETTINGS, f"seed={seed}", f"run_dir={parent}"]) == 0
        found[""].append(figures(parent))
        for change in CHANGES:
            fork = parent.with_name(f"{parent.name}-{change}")
            assert run(["fork", f"{parent}@15", change, f"run_dir={fork}"]) == 0
            found[change].append(figures(fork))
    print(
        "| change | figure | mean effect | its sd, by a fork | variance, two seeds over fork |\n|---|---|---|---|---|"
    )
    for change in CHANGES:
        for name in ("J", "reward", "KL"):
            columns = [[each[name] for each in found[key]] for key in ("", change)]
            mean, deviation, times = ratio(*columns)
            print(f"| `{change}` | {name} | {mean:+.4f} | {deviation:.4f} | {times:.1f} |", flush=True)


if __name__ == "__main__":
    main()
