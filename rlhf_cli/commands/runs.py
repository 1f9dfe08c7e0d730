"""`rlhf runs`: what runs there are, how each stands, and how to go on with it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rlhf_cli.commands.parser import Parser
from rlhf_cli.display.runs import failure, show_runs
from rlhf_cli.errors import EXIT_DONE, EXIT_RESUME, UserError
from rlhf_cli.runs.jsonl import finite
from rlhf_cli.runs.listing import runs
from rlhf_cli.sweep.record import Sweep


def main(argv: list[str]) -> int:
    """Print them; nothing is written and nothing is loaded."""
    options = _parser().parse_args(argv)
    folders = [Path(name).expanduser() for name in options.folders]
    for folder in folders:
        if not folder.is_dir() and options.folders != ["outputs"]:
            raise UserError("no such folder", where=str(folder), fix="name a folder with runs", exit_code=EXIT_RESUME)
    by_folder = {run.folder: run for folder in folders for run in runs(folder)}
    found = sorted(by_folder.values(), key=lambda run: (-run.changed, run.folder))
    if not found:
        raise UserError(
            "no run there: no folder with the config.json of one",
            where=", ".join(str(folder.absolute()) for folder in folders),
            fix="start one (rlhf train config=tiny), or name the folder your runs are in",
            exit_code=EXIT_RESUME,
        )
    read = {folder: Sweep.read(folder) for folder in dict.fromkeys(run.folder.parent for run in found)}
    sweeps = {folder: sweep for folder, sweep in read.items() if sweep is not None}
    if options.json:
        for run in found:
            of = sweeps.get(run.folder.parent)
            row = {**run.row(), "sweep": str(of.folder) if of else None, "failed": failure(run) if of else ""}
            print(json.dumps(finite(row)))
    else:
        show_runs(found, sweeps)
    return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="rlhf runs", description="The runs there are, what changed last first.")
    parser.add_argument("folders", metavar="FOLDER", nargs="*", default=["outputs"], help="where to look (outputs)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser
