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
        found = Result.read(run).comparison
        assert found is not None, f"{run} was never evaluated"
        reward, objective = found.change["reward"], found.change["objective"]
        length = found.after["length"].mean / found.before["length"].mean
        cells = [
            run.name,
            f"{found.before['reward'].mean:.3f}",
            f"{found.after['reward'].mean:.3f}",
            f"{reward.mean:+.3f} [{reward.low:+.3f}, {reward.high:+.3f}]",
            f"{found.after['kl'].mean:.2f} ± {found.after['kl'].half_width:.2f}",
            f"{found.before['objective'].mean:.3f}",
            f"{found.after['objective'].mean:.3f}",
            f"{objective.mean:+.3f} [{objective.low:+.3f}, {objective.high:+.3f}]",
            f"x {length:.2f}",
            f"x {found.distinct_2[1] / found.distinct_2[0]:.2f}",
            f"{minutes(run):.1f}",
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
