"""Find the run that a command goes on with: the settings to use, and the checkpoint to continue from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from rlhf_cli.config.compose import amend_for
from rlhf_cli.config.security import refuse_unsaid_trust
from rlhf_cli.errors import EXIT_RESUME, UserError
from rlhf_cli.paths import quoted, why_shared
from rlhf_cli.runs.binding import is_own
from rlhf_cli.runs.changes import resume_config
from rlhf_cli.runs.checkpoint import step_of
from rlhf_cli.runs.folder import CHECKPOINTS, RESULT, check_kinds
from rlhf_cli.runs.kind import SUPERVISED, check_verb
from rlhf_cli.runs.result import Result
from rlhf_cli.runs.resume import Origin, find_foreign, find_origin, has_run, is_exported, read_config
from rlhf_cli.schema import TrainingConfig
from rlhf_cli.supervised.result import SupervisedResult
from rlhf_cli.supervised.settings import SupervisedConfig
from rlhf_cli.verbs import Verb

C = TypeVar("C", bound=TrainingConfig)
R = TypeVar("R", Result, SupervisedResult)


def resume_target(argv: Sequence[str]) -> str | None:
    """The run that a command line resumes, by `resume=`; None where it begins one, or finds out itself (auto).

    Raises UserError where it names none.
    """
    targets = [_unquoted(argument.removeprefix("resume=")) for argument in argv if argument.startswith("resume=")]
    if "" in targets:
        raise UserError("no run is named", where="resume", fix="give a run's folder or latest, or leave resume out")
    return targets[-1] if targets and targets[-1] not in ("auto", "null") else None


def _unquoted(text: str) -> str:
    """The text without the quotes around it; a folder's name may end in one."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] in "'\"" else text


def find_run_in(folder: Path, config: C, verb: Verb[C]) -> tuple[C, Origin | None]:
    """Find the run in `folder`: the config to use, and where to continue (None: a new run).

    Raises UserError where the folder holds a run that this command must not touch.
    """
    check_kinds(folder)
    if not has_run(folder):
        refuse_shared(folder, "run_dir")
        if name := find_foreign(folder):
            what = f"{folder} holds {name}, which is no run's, and would be written over"
            raise UserError(what, where="run_dir", fix="give another folder, as run_dir=outputs/NAME")
        return config, None
    if config.resume != "auto":
        raise UserError(
            f"{folder} holds a run already",
            where="run_dir",
            fix=f"continue it by resume={quoted(folder)}, or give another folder",
        )
    origin = find_origin(str(folder))
    saved = read_config(folder, origin.checkpoint)
    check_verb(saved, verb.words, folder)
    return _settings_to_resume(verb, saved, config, origin), origin


def refuse_shared(folder: Path, key: str) -> None:
    """Raise UserError where others keep their files in the folder itself; `key` is the setting that names it."""
    if why := why_shared(folder):
        raise UserError(f"{folder} is {why}", where=key, fix=f"give a folder of its own, as {key}=outputs/NAME")


def find_run_to_resume(target: str, overrides: Sequence[str], verb: Verb[C]) -> tuple[C, Origin]:
    """Find the run that `resume=target` means: its config with these overrides, and where to continue.

    Raises UserError for overrides that a resumed run cannot take.
    """
    if {"-m", "--multirun"} & set(overrides):
        raise UserError("resume= continues one run, -m starts many", where="resume", fix="leave one of them out")
    if any(override.startswith(("run_dir=", "sweep_dir=")) for override in overrides):
        raise UserError("a run goes on in its own folder", where="resume", fix="leave run_dir and sweep_dir out")
    origin = find_origin(target, verb.words)
    saved = read_config(origin.folder, origin.checkpoint)
    check_verb(saved, verb.words, origin.folder)
    config = amend_for(verb, saved, overrides)
    refuse_unsaid_trust(config, overrides, EXIT_RESUME)
    return _settings_to_resume(verb, saved, config, origin), origin


def check_objective(config: TrainingConfig, verb: Verb[TrainingConfig]) -> None:
    """Raise UserError where the objective is that of another verb."""
    if isinstance(config, SupervisedConfig) and SUPERVISED[kind := config.objective.kind] != verb.words:
        raise UserError(f"objective={kind} is for rlhf {SUPERVISED[kind]}", where="objective", fix="take that verb")


def _settings_to_resume(verb: Verb[C], saved: dict[str, Any], config: C, origin: Origin) -> C:
    """The config to resume with; raises UserError for what may not change, and for fewer steps than are done."""
    check_objective(config, verb)
    config, done = resume_config(amend_for(verb, saved, ()), config), step_of(origin.checkpoint)
    if config.steps < done:
        earlier = f"{quoted(origin.folder / CHECKPOINTS)}/step-..."
        raise UserError(
            f"step {done} is done already",
            where=f"steps={config.steps}",
            fix=f"steps={2 * done}, or name an earlier checkpoint: resume={earlier}",
        )
    return config


def read_result(kind: type[R], origin: Origin | None) -> R | None:
    """Read the result of a run whose last checkpoint is of the result's step; None where its conclusion is missing."""
    if origin is None or not is_own(origin.folder, RESULT) or not is_exported(origin.folder):
        return None
    result = kind.read(origin.folder)
    return result if result is not None and result.step == step_of(origin.checkpoint) else None
