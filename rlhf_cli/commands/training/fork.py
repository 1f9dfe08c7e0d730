"""`rlhf fork RUN@STEP key=value`: go on from a checkpoint with other settings and the same random numbers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

from rlhf_cli.commands.parts import ready, running
from rlhf_cli.commands.parts.parser import Parser
from rlhf_cli.commands.training.train import TRAINER
from rlhf_cli.config.arguments import parse_override, rewrite
from rlhf_cli.config.compose import amend
from rlhf_cli.config.jobs import combine
from rlhf_cli.config.naming import trial_name
from rlhf_cli.config.security import refuse_unsaid_trust
from rlhf_cli.display.verbs.fork import show_effect
from rlhf_cli.errors import EXIT_RESUME, UserError
from rlhf_cli.prompts.rows import read_rows
from rlhf_cli.rewards.columns import check_rows
from rlhf_cli.runs.checkpoint import step_of
from rlhf_cli.runs.folder import check_kinds
from rlhf_cli.runs.forking import ASIDE, check_fork, find_fork_point, make_fork, parent_of
from rlhf_cli.runs.kind import check_verb
from rlhf_cli.runs.resume import Origin, has_run, read_config
from rlhf_cli.runs.sinks import check_sinks
from rlhf_cli.schema import RunConfig

ABOUT: Final = """\
Goes on from a checkpoint of a run of rlhf train with some settings changed, in
a folder of its own. Everything random is the same as in the parent, so what
differs is what the change did. The parent is only read."""

EXAMPLES: Final = """\
Without a change a fork repeats its parent bit for bit. The model, the data, the
held-out prompts and the seed stay; all else may change. The same command again
goes on with a fork that was stopped. rlhf report PARENT FORK shows the effect.

  rlhf fork outputs/2026-11-22/13-37-05@20 beta=0.2
  rlhf fork RUN optimizer.lr=1e-4 steps=80     from the newest checkpoint
  rlhf fork RUN@20 -m beta=0.05,0.2,0.5        three forks, one after another"""


@dataclass(frozen=True, slots=True)
class _Fork:
    """One fork, checked; its folder may hold it already."""

    config: RunConfig
    changed: dict[str, tuple[Any, Any]]
    folder: Path
    command: tuple[str, ...]


def main(argv: list[str]) -> None:
    """Check every fork, then make and train one after another."""
    begun = time.monotonic()
    parser = Parser(prog="rlhf fork", description=ABOUT, epilog=EXAMPLES)
    parser.add_argument("run", metavar="RUN[@STEP]", help="a run's folder, with the step of a checkpoint, or latest")
    parser.add_overrides("settings to change, as for rlhf train")
    parser.add_argument("-m", "--multirun", action="store_true", help="lists of values: a fork of each combination")
    options = parser.parse_intermixed_args(argv)
    origin = find_fork_point(options.run)
    overrides = [parse_override(word) for word in options.overrides]
    jobs = combine(overrides) if options.multirun else [tuple(options.overrides)]
    if len(jobs) > 1 and any(override.key_or_group == "run_dir" for override in overrides):
        raise UserError("run_dir names the folder of one fork", where="run_dir", fix="leave it out")
    forks = [_check(origin, job) for job in jobs]
    if len({fork.folder for fork in forks}) < len(forks):
        raise UserError("two forks would write to one folder: is a value listed twice?")
    for fork in forks:
        if not has_run(fork.folder):
            make_fork(origin, fork.folder, fork.config, fork.changed, fork.command)
        running.start(TRAINER, fork.config, begun, command=fork.command)
        if fork.config.display not in ("json", "quiet"):
            show_effect(origin.folder, fork.folder)


def _check(origin: Origin, overrides: Sequence[str]) -> _Fork:
    """Compose a fork; raises UserError for what would make it meaningless, before anything is written."""
    saved = read_config(origin.folder, origin.checkpoint)
    check_verb(saved, "train", origin.folder, "only runs of rlhf train can be forked")
    step, named = step_of(origin.checkpoint), any(override.startswith("run_dir=") for override in overrides)
    before = amend(saved, ())
    config = amend(saved, overrides)
    refuse_unsaid_trust(config, overrides, EXIT_RESUME)
    changed = check_fork(before, config, step)
    folder = Path(config.run_dir) if named and config.run_dir else _default_folder(origin.folder, step, overrides)
    _check_folder(folder, origin, step)
    groups = {key.split(".")[0] for key in changed}
    allowed = {*config.resume_allow, *(groups & {"reward", "reference"})}  # run.json has hashes of these
    config = config.model_copy(
        update={"run_dir": str(folder), "resume": "auto", "resume_allow": tuple(sorted(allowed))}
    )
    check_sinks(config.sinks)
    ready.check_sources(config)
    rows = read_rows(config)
    check_rows(config.reward.source, chain(rows.train, rows.held_out))
    command = "rlhf", "fork", f"{origin.folder}@{step}", *overrides
    return _Fork(config, changed, folder, command)


def _default_folder(run: Path, step: int, overrides: Sequence[str]) -> Path:
    """Beside the parent, named by it, the step and the overrides: the same command finds it again."""
    changes = trial_name([rewrite(override, Path.cwd()) for override in overrides], ASIDE) if overrides else "same"
    return run.with_name(f"{run.name}-fork-{step}-{changes}")


def _check_folder(folder: Path, origin: Origin, step: int) -> None:
    """Raise UserError where the folder holds something else than this fork."""
    check_kinds(folder)
    parent = parent_of(folder)
    is_own = parent is not None and (parent.folder, parent.step) == (origin.folder, step)
    if not is_own and folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} is there already, and is no fork of this checkpoint", fix="run_dir=FOLDER")
