"""`rlhf runs`: list the runs, each with its state and the command that continues it."""

from pathlib import Path

from rlhf_cli.commands.parts.parser import Parser
from rlhf_cli.display.printing import print_json, print_note
from rlhf_cli.display.verbs.runs import show_runs, why_failed
from rlhf_cli.errors import UserError, bad_run
from rlhf_cli.paths import expand
from rlhf_cli.runs.listing import list_runs
from rlhf_cli.sweep.record import SweepRecord


def main(argv: list[str]) -> None:
    """Print the runs; write nothing, and load no library."""
    parser = Parser(prog="rlhf runs", description="The runs there are, what changed last first.")
    parser.add_argument("folders", metavar="FOLDER", nargs="*", default=["outputs"], help="where to look (outputs)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args(argv)
    folders = [expand(name) for name in options.folders]
    for folder in folders:
        if not folder.is_dir() and options.folders != ["outputs"]:
            raise bad_run("no such folder", folder, "name a folder with runs")
    by_folder = {run.folder: run for folder in folders for run in list_runs(folder)}
    runs = sorted(by_folder.values(), key=lambda run: (-run.changed, run.folder))
    if not runs:
        raise bad_run(
            "no run there: no folder with the config.json of one",
            ", ".join(str(folder.absolute()) for folder in folders),
            "start one (rlhf train config=tiny), or name the folder your runs are in",
        )
    records = map(_read_sweep, dict.fromkeys(run.folder.parent for run in runs))
    sweeps = {sweep.folder: sweep for sweep in records if sweep is not None}
    if options.json:
        for run in runs:
            of = sweeps.get(run.folder.parent)
            row = {**run.row(), "sweep": str(of.folder) if of else None, "failed": (of and why_failed(run)) or ""}
            print_json(row)
    else:
        show_runs(runs, sweeps)


def _read_sweep(folder: Path) -> SweepRecord | None:
    """The record of the sweep in the folder; None where there is none, or a note where it was changed."""
    try:
        return SweepRecord.read(folder)
    except UserError as error:
        print_note(error.line())
        return None
