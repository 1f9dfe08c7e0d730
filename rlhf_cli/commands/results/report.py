"""`rlhf report`: write the page of a run, of a sweep, or of several runs beside one another."""

from functools import partial
from pathlib import Path

from rlhf_cli.commands.parts.parser import Parser
from rlhf_cli.display.printing import print_note, print_result
from rlhf_cli.errors import UserError, bad_run, disk_errors, visible
from rlhf_cli.paths import expand, relative_to_here
from rlhf_cli.report import writing
from rlhf_cli.rounds.folder import FeedbackSettings
from rlhf_cli.runs.folder import CONFIG, REPORT
from rlhf_cli.runs.resume import find_named, has_run, missing_folder
from rlhf_cli.sweep.growth import read_beta
from rlhf_cli.sweep.record import SweepRecord


def main(argv: list[str]) -> None:
    """Write the page and print where it is. No model is loaded, and no run is touched."""
    parser = Parser(
        prog="rlhf report",
        description="One self-contained HTML page: a run's curves, held-out comparison, completions and settings; a "
        "sweep's points and what it recommends; or several runs beside one another, each against the first.",
    )
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="the folder of a run or of a sweep, or latest; several runs are compared"
    )
    parser.add_argument(
        "--output", metavar="FILE", help=f"where to write it (default: RUN/{REPORT}; for several runs ./{REPORT})"
    )
    parser.add_argument(
        "--compare-at", metavar="BETA", type=read_beta, help="the beta at which to compare the points of a sweep"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(argv)
    folders = list(dict.fromkeys(_folder(name) for name in options.runs))
    if options.output is not None:
        file = expand(options.output).absolute()
        writing.check_page(file, overwrite=True)
    else:
        file = (folders[0] if len(folders) == 1 else Path.cwd()) / REPORT
    writing.write_page(file, writing.page_of(folders, options.compare_at), overwrite=options.output is not None)
    line = visible(f"written to {relative_to_here(file)}")
    print_result({"written": str(file)}, partial(print, line), as_json=options.json, indent=None)


def write_after_training(folder: Path) -> None:
    """Write the page of a run that has just ended; a failure is a note, because the run itself is complete."""
    try:
        with disk_errors():
            writing.write_page(folder / REPORT, writing.page_of([folder]), overwrite=False)
    except Exception as error:  # of any kind: the run is finished and saved
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        print_note(f"no {REPORT}: {reason}")


def _folder(name: str) -> Path:
    folder = find_named(name)
    if not folder.is_dir():
        raise missing_folder(folder, name)
    if not has_run(folder) and SweepRecord.read(folder) is None and FeedbackSettings.read(folder) is None:
        fix = "rlhf runs lists them" if not (folder / CONFIG).is_file() else "it has not begun: nothing was written yet"
        raise bad_run("no run here", folder, fix)
    return folder
