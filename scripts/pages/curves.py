"""Draw a metric of several runs against the step, as an SVG: scripts/pages/curves.py OUT.svg METRIC NAME=RUN ...

Each point is the mean of the step and the four steps before it, since the eight prompts of a step differ.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean
from typing import Final

from rlhf_cli.charts.pictures import Chart, Series
from rlhf_cli.charts.svg import svg

WINDOW: Final = 5


def series(label: str, run: Path, metric: str) -> Series:
    """The metric as a series, at every step that has it."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    points = [(row["step"], row[metric]) for row in rows if row.get(metric) is not None]
    values = [value for _, value in points]
    smooth = [fmean(values[max(i - WINDOW + 1, 0) : i + 1]) for i in range(len(values))]
    return Series(label, [step for step, _ in points], smooth)


if __name__ == "__main__":
    out, metric, *named = sys.argv[1:]
    pairs = [one.partition("=") for one in named]
    curves = tuple(series(label, Path(run), metric) for label, _, run in pairs)
    picture = svg(Chart(metric, "step", f"mean of {WINDOW} steps", curves)).replace("<svg ", '<svg width="480" ', 1)
    Path(out).write_text(picture + "\n", encoding="utf-8")
