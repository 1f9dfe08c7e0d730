"""Prepare a run: refuse mistakes before anything is written, name the code it runs, and hold its folder."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from rlhf_cli.commands.parts.resuming import check_objective, find_run_in, refuse_shared
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.errors import Stopped, UserError, disk_errors
from rlhf_cli.models.location import check_reference, code_notice, local_path
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.prompts.rows import check_enough, read_rows
from rlhf_cli.rewards.columns import check_rows
from rlhf_cli.runs.changes import FINGERPRINT_VARIABLE, fingerprint
from rlhf_cli.runs.checkpoint import find_newest, list_checkpoints, step_of
from rlhf_cli.runs.folder import CHECKPOINTS, REWARD_LOG, SWEEP
from rlhf_cli.runs.lock import hold
from rlhf_cli.runs.resume import Origin, read_config, remove_stub_on_failure
from rlhf_cli.runs.sinks import check_sinks
from rlhf_cli.schedules import Controlled
from rlhf_cli.schedules.constant import Constant
from rlhf_cli.schema import RunConfig, TrainingConfig
from rlhf_cli.supervised.lessons import check_lessons
from rlhf_cli.supervised.settings import SupervisedConfig
from rlhf_cli.verbs import TRAIN, Verb

C = TypeVar("C", bound=TrainingConfig)


def compose_new(overrides: Sequence[str]) -> RunConfig:
    """Compose the config of a run that has not begun; raises UserError where it names one to resume."""
    config = compose_config(overrides)
    refuse_resume(config)
    return config


def refuse_resume(config: TrainingConfig) -> None:
    """Raise UserError where the config names a run to resume."""
    if config.resume not in (None, "auto"):
        raise UserError("these are the settings of a new run", where="resume", fix="leave resume out")


def check_new_run(config: RunConfig, checked: list[tuple[Any, ...]]) -> None:
    """Raise UserError for every mistake in a new run that shows before a folder is made or a model is loaded.

    `checked` holds the settings whose prompts have been checked: jobs of a sweep that share them read the prompts once.
    """
    expected = os.environ.pop(FINGERPRINT_VARIABLE, "")
    if expected and expected != fingerprint(config):
        raise UserError("the settings are not those that the sweep began with", fix="give the sweep's command again")
    _check_place(config, TRAIN, config.sweep_dir)
    beta = config.beta
    if isinstance(beta, Controlled) and not beta.lowest <= beta.start <= beta.highest:  # not refused on a resume
        raise UserError(
            f"{beta.start:g} is not between beta.lowest={beta.lowest:g} and beta.highest={beta.highest:g}",
            where="beta.start",
            fix="start between them: a controller keeps beta there from the second step on",
        )
    if config.reward.is_none and (config.reference.kind == "initial" or beta == Constant(kind="constant", value=0.0)):
        raise UserError(
            "without a reward there is nothing to learn but to write like another model, with beta above 0",
            where="reward",
            fix="name a reward, or that model: reference=model reference.path=MODEL beta=1",
        )
    check_sources(config)
    prompts = config.data, config.evaluate, config.prompts_per_step, config.reward.source
    if prompts not in checked:
        rows = read_rows(config)
        check_enough(rows, [len(part.train) for part in rows.parts], config)
        check_rows(config.reward.source, chain(rows.train, rows.held_out))
        checked.append(prompts)


def check_new_training(config: SupervisedConfig, verb: Verb[SupervisedConfig]) -> None:
    """Raise UserError for every mistake in a new run of supervised training, as `check_new_run` does."""
    check_objective(config, verb)
    _check_place(config, verb)
    check_model(config)
    rows = read_rows(config)
    check_enough(rows, [len(part.train) for part in rows.parts], config)
    check_lessons(chain(rows.train, rows.held_out), config.objective)


def _check_place(config: C, verb: Verb[C], sweep_dir: str | None = None) -> None:
    """Raise UserError where a new run names another, finds one in its folder, or lacks the package of a sink."""
    if config.resume not in (None, "auto"):
        fix = f"rlhf {verb.words} resume=RUN"
        raise UserError("a run is continued from the command line alone", where="resume", fix=fix)
    if config.resume == "auto" and not (config.run_dir or sweep_dir):
        raise UserError("resume=auto needs a folder to find its run in", where="resume", fix="add run_dir=FOLDER")
    if config.run_dir is not None:
        find_run_in(Path(config.run_dir), config, verb)
    if sweep_dir is not None and not (Path(sweep_dir) / SWEEP).is_file():
        refuse_shared(Path(sweep_dir), "sweep_dir")
    check_sinks(config.sinks)


def check_sources(config: RunConfig) -> None:
    """Raise UserError where the folder of a model, or something that the reward needs, is missing."""
    check_model(config)
    check_reference(config.reference)
    config.reward.source.check("reward")


def check_model(config: TrainingConfig) -> None:
    """Raise UserError where the model's folder is missing."""
    if config.model.kind == "pretrained":
        local_path(config.model)


def notes_at_start(config: TrainingConfig, origin: Origin | None) -> Iterator[str]:
    """Yield the notes to show before a run trains: the step that it resumes from, and the code that it runs."""
    if origin is not None:
        yield origin.describe()
        schedules: set[str] = {config.optimizer.schedule}
        if isinstance(config, RunConfig):
            schedules |= {one.kind for one in (config.beta, config.temperature) if not isinstance(one, Controlled)}
        if schedules != {"constant"} and read_config(origin.folder)["steps"] != config.steps:
            yield "the schedules depend on steps, which changed: they go on as if it had been so from the start"
    if (warmup := config.optimizer.warmup_steps) > 10 * config.steps:
        yield f"optimizer.warmup_steps={warmup}: in steps={config.steps} the rate stays below a tenth of its peak"
    if isinstance(config, RunConfig):
        if config.prompts != "dynamic" and config.max_rollouts != RunConfig.model_fields["max_rollouts"].default:
            yield f"max_rollouts={config.max_rollouts} is for prompts=dynamic: a step has one rollout"
        if config.kl == "exact":
            yield "kl=exact is unbiased, but its noise does not vanish at the optimum as that of kl=reward does"
    yield from code_notices(config, REWARD_LOG)


def code_notices(config: TrainingConfig, reward_log: str = "") -> Iterator[str]:
    """Yield notes about the code that model and reward run; `reward_log` is the file of the reward's output, if any."""
    of_reward = config.reward.source.notice(reward_log) if isinstance(config, RunConfig) else None
    yield from filter(None, (code_notice(config.model), of_reward))


@contextmanager
def at_work(folder: Path, config: TrainingConfig, begun: float, *own: str) -> Iterator[StopSignals]:
    """Hold a run's folder, and handle the signals and errors of the run; a start that fails leaves no folder.

    `begun` is the time, of `time.monotonic`, from which the time limit counts; `own` are names of more files that the
    start makes.
    """
    signals = StopSignals(config.time_limit, begun)
    signals.is_resumable = lambda: config.resume == "auto" or bool(list_checkpoints(folder / CHECKPOINTS))
    with (
        signals.installed(),
        name_checkpoint_on_failure(folder, config),
        disk_errors(),
        hold(folder),
        remove_stub_on_failure(folder, *own),
    ):
        yield signals


@contextmanager
def name_checkpoint_on_failure(folder: Path, config: TrainingConfig) -> Iterator[None]:
    """If the run in `folder` fails or stops, add the checkpoint that it can continue from to the error."""
    try:
        yield
    except (UserError, Stopped) as error:
        newest = find_newest(folder / CHECKPOINTS).folder
        if isinstance(error, UserError):
            error.saved = f"step {step_of(newest)}" if newest else ""
        else:
            error.resumable = newest is not None or config.resume == "auto"  # the same command starts it again
        raise
