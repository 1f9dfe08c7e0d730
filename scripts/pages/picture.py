"""Draw the dashboard of a run at a step: python scripts/pages/picture.py RUN OUT.svg STEP"""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from rlhf_cli.display.dashboard import Dashboard


def rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a jsonl file."""
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def main() -> None:
    """Show the dashboard the run's files up to the step, and save its picture."""
    run, out, until = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    metrics, timings = rows(run / "metrics.jsonl"), rows(run / "timings.jsonl")
    samples = {row["step"]: row for row in rows(run / "samples.jsonl")}
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    title = f"{config['algorithm']['kind']} · SmolLM2-135M-Instruct · {config['reward']['kind']}"
    dashboard = Dashboard(console, title, config["steps"])
    for row, timing in zip(metrics, timings, strict=True):
        if 0 < row["step"] <= until:
            sample = samples[row["step"]]
            dashboard.step(row["step"], row, timing, (sample["prompt"], sample["completion"]))
    console.print(dashboard._draw())
    svg = console.export_svg(title="rlhf train")
    out.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), encoding="utf-8")  # nothing remote


if __name__ == "__main__":
    main()
