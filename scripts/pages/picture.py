"""Draw the dashboard of a run at some steps, one after another: python scripts/pages/picture.py RUN OUT.svg STEP ...

The last one is also what stands still where nothing may move.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from rlhf_cli.display.dashboard import Dashboard

EACH_S: Final = 0.8
"""Seconds that a picture is shown."""
LAST_S: Final = 4.0
"""Seconds that the last picture is shown."""
ID: Final = "rlhf"
MATRIX: Final = re.compile(rf'(<g class="{ID}-matrix">\n)(.*?)(\n    </g>)', re.DOTALL)
RULE: Final = re.compile(rf"\.{ID}-(r\d+) \{{ (.*?) \}}\n?")


def rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a jsonl file."""
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def pictures(run: Path, steps: Sequence[int]) -> Iterator[str]:
    """Show the dashboard the run's files, and yield its picture after each of the steps."""
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    samples = {row["step"]: row for row in rows(run / "samples.jsonl")}
    title = f"{config['algorithm']['kind']} · SmolLM2-135M-Instruct · {config['reward']['kind']}"
    dashboard = Dashboard(Console(width=100), title, config["steps"])
    for row, timing in zip(rows(run / "metrics.jsonl"), rows(run / "timings.jsonl"), strict=True):
        step = row["step"]
        if step:
            sample = samples[step]
            dashboard.step(step, row, timing, (sample["prompt"], sample["completion"]))
        else:
            dashboard.evaluated(step, row)
        if step in steps:
            panel = dashboard._draw()
            console = Console(record=True, width=panel.width, file=io.StringIO(), force_terminal=True)
            console.print(panel)
            yield console.export_svg(title="rlhf train", unique_id=ID)


def joined(each: Sequence[str]) -> str:
    """The pictures as one that moves: the frame of the first, and in it the texts of each, visible in their time."""
    total, groups, names = EACH_S * (len(each) - 1) + LAST_S, list[str](), dict[str, str]()
    for number, svg in enumerate(each):
        of_class = {old: names.setdefault(rule, f"t{len(names)}") for old, rule in RULE.findall(svg)}
        found = MATRIX.search(svg)
        assert found is not None
        texts = re.sub(rf' clip-path="url\(#{ID}-line-\d+\)"|\n', "", found[2])
        for old, name in of_class.items():
            texts = texts.replace(f'class="{ID}-{old}"', f'class="{name}"')
        kind = "picture" if number < len(each) - 1 else "picture last"
        groups.append(f'<g class="{kind}" style="animation-delay: {EACH_S * number - total:g}s">{texts.strip()}</g>')
    rules = [
        f"@keyframes picture {{ 0% {{ visibility: visible }} {100 * EACH_S / total:.3f}% {{ visibility: hidden }} }}",
        f"@keyframes last {{ 0% {{ visibility: visible }} {100 * LAST_S / total:.3f}% {{ visibility: hidden }} }}",
        f".picture {{ visibility: hidden; animation: picture {total:g}s step-end infinite }}",
        ".last { visibility: visible; animation-name: last }",
        "@media (prefers-reduced-motion: reduce) { .picture { animation: none } }",
        *(f".{name} {{ {rule} }}" for rule, name in names.items()),
    ]
    svg = MATRIX.sub(lambda match: match[1] + "\n".join(groups) + match[3], each[0])
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # nothing remote
    svg = re.sub(rf'<clipPath id="{ID}-line-\d+">.*?</clipPath>\s*', "", svg, flags=re.DOTALL)
    return RULE.sub("", svg).replace("</style>", "\n".join(rules) + "\n    </style>", 1)


def main() -> None:
    """Draw the run, and save the picture."""
    run, out, steps = Path(sys.argv[1]), Path(sys.argv[2]), [int(word) for word in sys.argv[3:]]
    out.write_text(joined([*pictures(run, steps)]), encoding="utf-8")


if __name__ == "__main__":
    main()
