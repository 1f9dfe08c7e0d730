"""`rlhf doctor [RUN|SWEEP]`: what is wrong with a run, with its evidence; or the machine, for a bug report."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from rlhf_cli.commands.parts.parser import Parser
from rlhf_cli.display.printing import print_result
from rlhf_cli.display.verbs.doctor import show_machine, show_run, show_sweep
from rlhf_cli.display.watchers import progress
from rlhf_cli.errors import bad_run
from rlhf_cli.health.alarms import Alarms, replay
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.runs.folder import CONFIG
from rlhf_cli.runs.json_files import read_object
from rlhf_cli.runs.kind import check_verb
from rlhf_cli.runs.listing import list_runs
from rlhf_cli.runs.reading import read_evaluations, read_steps
from rlhf_cli.runs.resume import find_named, has_run, missing_folder
from rlhf_cli.sweep.record import SweepRecord

ABOUT: Final = """\
What is wrong with a run, or with each trial of a sweep, from its metrics and its
evaluations: when it began, the numbers, and the override to try. Without a
folder: the machine and the versions, for a bug report."""

EXAMPLES: Final = """\
examples:
  rlhf doctor
  rlhf doctor latest
  rlhf doctor outputs/sweeps/NAME --json

The rules, their limits and how often they are wrong: docs/doctor.md"""


def main(argv: list[str]) -> None:
    """Print the findings, or the machine. No model is loaded, and no run is touched."""
    parser = Parser(prog="rlhf doctor", description=ABOUT, epilog=EXAMPLES)
    parser.add_argument("run", metavar="RUN", nargs="?", help="the folder of a run or a sweep, or latest")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(argv)
    if options.run is None:
        with progress("plain").phase("loading torch", 0):
            import_libraries()
            from rlhf_cli.verify.machine import examine_machine
        facts = examine_machine()
        print_result(facts, partial(show_machine, facts), as_json=options.json)
        return
    folder = find_named(options.run)
    if not folder.is_dir():
        raise missing_folder(folder, options.run)
    if has_run(folder):
        alarms = _examine(folder)
        print_result(_row(folder, alarms), partial(show_run, alarms), as_json=options.json)
    elif SweepRecord.read(folder) is not None:
        trials = {run.folder: _examine(run.folder) for run in sorted(list_runs(folder), key=lambda run: run.folder)}
        rows = {"folder": str(folder), "trials": [_row(*trial) for trial in trials.items()]}
        print_result(rows, partial(show_sweep, trials), as_json=options.json)
    else:
        raise bad_run("no run and no sweep here", folder, "rlhf runs lists them")


def _examine(folder: Path) -> Alarms:
    """The alarms of a run, from its files alone."""
    config = read_object(folder / CONFIG)
    check_verb(config, "train", folder, "rlhf report shows its losses; the doctor reads runs of rlhf train")
    return replay(read_steps(folder), read_evaluations(folder), config)


def _row(folder: Path, alarms: Alarms) -> dict[str, Any]:
    findings = [asdict(finding) for finding in alarms.findings()]
    return {"folder": str(folder), "steps": alarms.course.step, "findings": findings}
