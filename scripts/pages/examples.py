"""Build the two example pages: python scripts/pages/examples.py [FOLDER] [--sweep SWEEP] [--fast] [--pictures]

It writes them to FOLDER (default: docs, where git ignores them): demo.html, the lecture, and sweep.html, the page of
the sweep in the folder SWEEP, or of a small sweep that it runs first. --pictures also writes one picture of each page,
demo.svg and sweep.svg; docs/ keeps those of the whole lecture and of the sweep that docs/sweeps.md describes.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path
from typing import Final

from rlhf_cli.cli import run

DOCS: Final = Path(__file__).parents[2] / "docs"
SWEEP: Final = ("config=tiny", "steps=4", "evaluate.every=2", "-m", "beta=0.05,0.2", "temperature=0.7,1.0")
PICTURES: Final = {
    "demo": "With the reference (β = 0.1): the objective",
    "sweep": "Reward against KL to the reference",
}
"""The title of the picture that stands for each page."""


def build(folder: Path, sweep: Path | None, *, fast: bool, pictures: bool) -> None:
    """Write both pages, and their pictures if wanted."""
    rlhf("demo", "--html", str(folder / "demo.html"), *(["--fast"] if fast else []))
    with tempfile.TemporaryDirectory() as scratch:
        if sweep is None:
            sweep = Path(scratch) / "sweep"
            rlhf("train", *SWEEP, f"sweep_dir={sweep}", "display=quiet")
        rlhf("report", str(sweep), "--output", str(folder / "sweep.html"))
    if pictures:
        for name, title in PICTURES.items():
            page = (folder / f"{name}.html").read_text(encoding="utf-8")
            (folder / f"{name}.svg").write_text(picture(page, title) + "\n", encoding="utf-8")


def rlhf(*argv: str) -> None:
    """Run the command; leave with its exit code where it fails."""
    if code := run(list(argv)):
        raise SystemExit(code)


def picture(page: str, title: str) -> str:
    """The picture with this title as a file: of a size, and without what only a pointer shows.

    Raises ValueError where the page has none.
    """
    found = re.search(rf'<svg [^>]*aria-label="{re.escape(title)}".*?</svg>', page, re.DOTALL)
    if found is None:
        raise ValueError(f"no picture {title!r}")
    still = re.sub(r'<rect class="strip".*?</rect>\n', "", found[0], flags=re.DOTALL)
    return still.replace("<svg ", '<svg width="480" ', 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the two example pages.")
    parser.add_argument("folder", nargs="?", type=Path, default=DOCS)
    parser.add_argument("--sweep", type=Path, help="the folder of a sweep (default: a small one is run)")
    parser.add_argument("--fast", action="store_true", help="shorter runs in the lecture")
    parser.add_argument("--pictures", action="store_true", help="also write demo.svg and sweep.svg")
    options = parser.parse_args()
    build(options.folder, options.sweep, fast=options.fast, pictures=options.pictures)
