"""The results of several runs as a Markdown table: python scripts/pages/seeds_table.py RUN ..."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rlhf_cli.runs.result import Result


def minutes(run: Path) -> float:
    """Minutes of steps and evaluations, without loading and set-up."""
    lines = (run / "timings.jsonl").read_text(encoding="utf-8").splitlines()
    return sum(json.loads(line)["time/step_s"] for line in lines) / 60


def main() -> None:
    """Print a row for each run."""
    print("| run | reward before | after | change | KL | J before | after | change | length | distinct-2 | minutes |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for run in map(Path, sys.argv[1:]):
        comparison = Result.read(run).comparison
        assert comparison is not None, f"{run} was never evaluated"
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


if __name__ == "__main__":
    main()
