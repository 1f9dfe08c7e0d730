"""`rlhf report`: a run or a sweep as one page, or several runs beside one another."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from rlhf_cli.commands.parser import Parser
from rlhf_cli.errors import EXIT_DISK, EXIT_DONE, EXIT_RESUME, UserError
from rlhf_cli.paths import shown
from rlhf_cli.report import comparison_page, run_page, sweep_page
from rlhf_cli.report.page import GENERATOR
from rlhf_cli.runs.folder import CONFIG, REPORT
from rlhf_cli.runs.reading import read
from rlhf_cli.runs.resume import holds_run
from rlhf_cli.sweep.answer import answer
from rlhf_cli.sweep.record import Sweep

_HEAD: Final = 2**10
"""Characters of a page among which its generator stands."""


def main(argv: list[str]) -> int:
    """Write the page and print where; nothing is loaded, and no run is touched."""
    options = _parser().parse_args(argv)
    folders = list(dict.fromkeys(_folder(name) for name in options.runs))
    if options.output is not None:
        file = Path(options.output).expanduser().absolute()
        if not file.parent.is_dir():
            raise UserError("no such folder", where=str(file.parent), exit_code=EXIT_DISK)
    else:
        file = (folders[0] if len(folders) == 1 else Path.cwd()) / REPORT
    write(file, html(folders), asked_for=options.output is not None)
    print(f"written to {shown(file)}")
    return EXIT_DONE


def html(folders: list[Path]) -> str:
    """The page of what is in these folders."""
    if len(folders) == 1 and (sweep := Sweep.read(folders[0])) is not None:
        return sweep_page.html(sweep, answer(sweep))
    runs = [read(folder) for folder in folders]
    return run_page.html(runs[0]) if len(runs) == 1 else comparison_page.html(runs)


def write(file: Path, text: str, *, asked_for: bool) -> None:
    """Write the page so that a reader sees the old one or the new one; what is no page of ours stays unless asked for.

    Raises UserError where it stays, and OSError where the disk refuses.
    """
    if not asked_for and file.exists() and not _is_ours(file):
        what = "there is a file of this name that is no page of rlhf"
        raise UserError(what, where=str(file), fix="rlhf report ... --output FILE")
    if file.is_dir():
        raise UserError("cannot write the page: Is a directory", where=str(file), exit_code=EXIT_DISK)
    if file.exists() and not file.is_file():  # /dev/stdout
        file.write_text(text, encoding="utf-8")
        return
    scratch = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(file)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


def _is_ours(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8") as handle:
            return GENERATOR in handle.read(_HEAD)
    except (OSError, ValueError):
        return False


def _folder(name: str) -> Path:
    folder = Path(name).expanduser().absolute()
    if not folder.is_dir():
        raise UserError("no such folder", where=name, fix="name a run's folder", exit_code=EXIT_RESUME)
    if not holds_run(folder) and Sweep.read(folder) is None:
        fix = "rlhf runs lists them" if not (folder / CONFIG).is_file() else "it has not begun: nothing was written yet"
        raise UserError("no run here", where=str(folder), fix=fix, exit_code=EXIT_RESUME)
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="rlhf report",
        description="One self-contained HTML page: a run's curves, held-out comparison, completions and settings; a "
        "sweep's points and what it recommends; or several runs beside one another, each against the first.",
    )
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="the folder of a run or of a sweep; several runs are compared"
    )
    parser.add_argument(
        "--output", metavar="FILE", help=f"where to write it (default: RUN/{REPORT}; for several runs ./{REPORT})"
    )
    return parser
