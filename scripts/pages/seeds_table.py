"""The results of several runs as a Markdown table: python scripts/pages/seeds_table.py [--gain 0.15] RUN ...

With `--gain` also how long training took until a held-out evaluation was so much better in J than the first, and the
median over the runs. Evaluations are not counted, so that more of them make the answer finer and not later.
"""

from __future__ import annotations

import argparse
import json
from math import inf
from pathlib import Path
from statistics import median

from rlhf_cli.runs.reading import compare_if_paired, read_evaluations
from rlhf_cli.runs.result import Result


def steps_to_gain(run: Path, gain: float) -> float:
    """The step of the first evaluation whose held-out J is at least `gain` above the first one's; inf: none was."""
    first, *later = read_evaluations(run)
    for evaluation in later:
        comparison = compare_if_paired(first, evaluation)
        if comparison and comparison.change["objective"].mean >= gain:
            return evaluation.step
    return inf


def minutes_to_gain(run: Path, gain: float) -> float:
    """Minutes of training until then, without evaluations, loading and set-up; inf where it was not reached."""
    steps = steps_to_gain(run, gain)
    rows: list[dict[str, float]] = [
        json.loads(line) for line in (run / "timings.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    trained = [row["time/step_s"] - row.get("time/evaluation_s", 0.0) for row in rows if 0 < row["step"] <= steps]
    return sum(trained) / 60 if steps < inf else inf


def minutes(run: Path) -> float:
    """Minutes of steps and evaluations, without loading and set-up."""
    lines = (run / "timings.jsonl").read_text(encoding="utf-8").splitlines()
    return sum(json.loads(line)["time/step_s"] for line in lines) / 60


def print_gains(runs: list[Path], gain: float) -> None:
    """Print a row for each run: the steps and minutes to the gain; and their medians."""
    found = [(steps_to_gain(run, gain), minutes_to_gain(run, gain)) for run in runs]
    print(f"\n| run | steps to a gain of {gain:+.2f} in held-out J | minutes of training |\n|---|---|---|")
    names = [*(run.name for run in runs), "median"]
    medians = (median(steps for steps, _ in found), median(minutes for _, minutes in found))
    for name, (steps, minutes) in zip(names, [*found, medians], strict=True):
        print(f"| {name} | {steps:.0f} | {minutes:.1f} |" if steps < inf else f"| {name} | not reached | – |")


def main() -> None:
    """Print a row for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gain", type=float)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    options = parser.parse_args()
    print("| run | reward before | after | change | KL | J before | after | change | length | distinct-2 | minutes |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for run in options.runs:
        result = Result.read(run)
        if result is None or result.comparison is None:
            raise SystemExit(f"{run} has no result with two evaluations")
        comparison = result.comparison
        reward, objective = comparison.change["reward"], comparison.change["objective"]
        length = comparison.after["length"].mean / comparison.before["length"].mean
        cells = [
            run.name,
            f"{comparison.before['reward'].mean:.3f}",
            f"{comparison.after['reward'].mean:.3f}",
            f"{reward.mean:+.3f} [{reward.low:+.3f}, {reward.high:+.3f}]",
            f"{comparison.after['kl'].mean:.2f} ± {comparison.after['kl'].half_width:.2f}",
            f"{comparison.before['objective'].mean:.3f}",
            f"{comparison.after['objective'].mean:.3f}",
            f"{objective.mean:+.3f} [{objective.low:+.3f}, {objective.high:+.3f}]",
            f"x {length:.2f}",
            f"x {comparison.distinct_2[1] / comparison.distinct_2[0]:.2f}",
            f"{minutes(run):.1f}",
        ]
        print(f"| {' | '.join(cells)} |")
    if options.gain is not None:
        print_gains(options.runs, options.gain)


if __name__ == "__main__":
    main()
