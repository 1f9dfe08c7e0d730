"""RunConfig and prompts -> Run: load the model and fit the parts together, fresh or from a checkpoint."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import torch

from rlhf_cli.engine.cpu import spare_threads
from rlhf_cli.engine.memory import REUSED_SHARE, forward_bytes, microbatch_size, predicted_peak, resident_of_children
from rlhf_cli.engine.opening import WHY_HIDDEN
from rlhf_cli.engine.reference import AnyEngine, TwoModels, native_engine
from rlhf_cli.errors import UserError, bad_run
from rlhf_cli.feedback.queue import Queue
from rlhf_cli.health.alarms import replay
from rlhf_cli.models.memory import GIB, total_memory
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline.held_out import prompts_at_once
from rlhf_cli.pipeline.profiling import Profiler
from rlhf_cli.pipeline.record import REFERENCE, RunRecord, check_ground, note_changes, record_of
from rlhf_cli.pipeline.run import Run
from rlhf_cli.pipeline.saving import Saver
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.pipeline.state import TrainState, load, read_state
from rlhf_cli.pipeline.work import Work
from rlhf_cli.plural import plural
from rlhf_cli.prompts.encoding import Prompts, encode
from rlhf_cli.prompts.rows import Rows
from rlhf_cli.ranks.dealing import UNITS
from rlhf_cli.ranks.duties import DUTIES
from rlhf_cli.ranks.shards import Shards
from rlhf_cli.ranks.team import Team
from rlhf_cli.reporter import Reporter
from rlhf_cli.rewards.columns import column_value
from rlhf_cli.rewards.execution.scorer import Scorer
from rlhf_cli.runs.binding import read_hash, read_record, write_config, write_record
from rlhf_cli.runs.checkpoint import abandon
from rlhf_cli.runs.folder import CHECKPOINTS, CONFIG, EVALUATIONS, LOGS, METRICS, PROFILE, RESULT, TIMINGS
from rlhf_cli.runs.json_files import content_of, read_last_lines, read_lines, read_rows
from rlhf_cli.runs.logbook import Logbook, Mark, cut_back
from rlhf_cli.runs.no_signal import read_no_signal
from rlhf_cli.runs.reading import read_evaluations, read_steps
from rlhf_cli.runs.resume import Origin
from rlhf_cli.runs.sinks import Curves
from rlhf_cli.schema import RunConfig, TrainingConfig
from rlhf_cli.types import Prompt

HOPELESS: Final = 10
"""Predicted memory, in multiples of what there is, at which a run does not begin."""

LARGE: Final = "max_new_tokens, prompts_per_step, samples_per_prompt or evaluate.samples"
"""The settings that make a step large."""


def assemble(
    config: RunConfig,
    rows: Rows,
    folder: Path,
    scorer: Scorer,
    reporter: Reporter,
    signals: StopSignals,
    origin: Origin | None,
    command: Sequence[str] = (),
    team: Team | None = None,
) -> Run:
    """Build a run in `folder`, at step 0 or at the origin's checkpoint.

    The record keeps the `command` that begins a run with these settings. Without a `team` this process calculates all
    shards.
    Raises UserError for prompts, models and settings that do not fit together.
    """
    if origin is not None:
        check_evaluations(folder, read_state(origin.checkpoint))
    team = team or Team()
    with reporter.phase("loading the model", 0):
        policy, engine = team.open(DUTIES, config, reporter.note)
    _note_hidden_tokens(config, rows, policy, reporter)
    if config.prompts == "headroom":
        reporter.note(
            "prompts=headroom: J, reward, KL and entropy of a step are weighed to all prompts; "
            "its lengths and samples are of those drawn"
        )
    if config.prompts == "dynamic":
        reporter.note(
            f"prompts=dynamic: a step learns from the first {plural(config.prompts_per_step, 'group')} with different "
            f"scores, of up to {plural(config.max_rollouts, 'rollout')}; the KL of all others is left out, so with "
            "beta > 0 it does not maximise J; J, reward and KL of a step are of all that it drew"
        )
    prompts, held_out = encode(rows, policy.encoder, policy.context, config, reporter)
    if config.shards == "auto":
        config = config.model_copy(update={"shards": team.size})
    config, peak = fit_memory(config, policy, engine, prompts, held_out, team)
    assert isinstance(config.microbatch_size, int)
    check_memory(policy.device, peak, reporter, LARGE)
    record = record_of(config, policy, engine.name, rows, scorer, predicted_peak=peak, command=command)
    record |= {"invariant": config.invariant}
    if isinstance(engine, TwoModels):
        other = engine.other.policy
        record[REFERENCE] = {"loaded_from": other.causal.config.name_or_path, "sha256_sampled": other.fingerprint}
    state, optimizer, saver, logbook = settle(config, folder, record, policy, origin, reporter)
    queue = None
    if config.evaluate.human:
        rows_asked = [prompt.row for prompt in held_out]
        queue = Queue(folder, rows_asked, config.evaluate.human_against, state.step, reporter.note)
    return Run(
        config=config,
        folder=folder,
        policy=policy,
        engine=engine,
        optimizer=optimizer,
        prompts=prompts,
        held_out=held_out,
        saver=saver,
        scorer=scorer,
        team=team,
        logbook=logbook,
        work=Work(
            min(config.microbatch_size, state.microbatch_size or config.microbatch_size),
            reporter,
            signals,
            threads=spare_threads(torch.get_num_threads()) if config.makes_room else None,
        ),
        state=state,
        queue=queue,
        profiler=Profiler(folder / PROFILE, policy.device, reporter) if config.profile else None,
        logs_errors=_logs_errors(folder),
        no_signal=read_no_signal(folder, config.samples_per_prompt),
        seconds=sum(row.get("time/step_s", 0.0) for row in read_rows(read_lines(folder / TIMINGS))),
        alarms=replay(read_steps(folder), read_evaluations(folder), config.model_dump(mode="json")),
    )


def _logs_errors(folder: Path) -> bool:
    """Whether the lines of metrics have `objective_se`, as those of a new run will: a resumed run repeats its bytes."""
    last = next((row for row in read_rows(read_last_lines(folder / METRICS)) if "objective" in row), None)
    return last is None or "objective_se" in last


def settle(
    config: TrainingConfig, folder: Path, record: RunRecord, policy: Policy, origin: Origin | None, reporter: Reporter
) -> tuple[TrainState, torch.optim.Optimizer, Saver, Logbook]:
    """Write run.json and config.json of a new run, or take a folder back to the origin's checkpoint and load it.

    Returns the state to go on from, the optimizer, and the owners of the run's files. Raises UserError where the run
    cannot go on with this model, data or reward, and where the disk has no room for it.
    """
    saver = Saver(folder, config.checkpoint, reporter.note)
    saver.check_room(policy)
    adamw = config.optimizer.model_dump(include={"lr", "betas", "eps", "weight_decay"})
    optimizer = torch.optim.AdamW(policy.parameters().values(), **adamw)
    decided = {"resume_allow": (), "dtype": record["dtype"]}  # an allowance counts once; the dtype stays
    saved = config.model_copy(update=decided).model_dump(mode="json")
    if origin is None:
        state = TrainState()
        write_record(folder, record)
        if config.dtype == "auto" and (record["device"], record["dtype"]) == ("cpu", "bfloat16"):
            reporter.note("bfloat16 weights, which are quick on this CPU; dtype=float32 rounds less")
    else:
        data = read_hash(origin.folder, "data")
        is_same_ground, known = check_ground(origin, record, reporter, config.resume_allow)
        if record["command"]:
            known["command"] = record["command"]  # with the settings that it goes on with
        state = load(origin.checkpoint, policy, optimizer)
        if known != read_record(origin.folder):
            write_record(origin.folder, known)
        if not is_same_ground:
            state = replace(state, sampler_gap=None)  # other ground rounds differently: compare again
        if data != record["data"]["sha256"]:
            state = replace(state, headroom=None)  # it is of the prompts before
        change = note_changes(origin, folder, saved, reporter)
        if state.best is not None and state.best.step <= change:
            state = replace(state, best=None)  # the evaluations to come cannot be compared with it
        go_back(folder, state, reporter)
    saver.bound = {CONFIG: write_config(folder, json.dumps(saved, indent=2) + "\n")}
    logbook = Logbook(folder, Curves(config.sinks, folder, state.step, saved, reporter.note))
    return state, optimizer, saver, logbook


def _note_hidden_tokens(config: RunConfig, rows: Rows, policy: Policy, reporter: Reporter) -> None:
    """Note special tokens that a column of right answers holds and no completion's text has."""
    for name in config.reward.source.needs:
        values = {str(column_value(row.columns, name)) for row in rows.train}
        if hidden := policy.hidden_from_texts(values):
            reporter.note(
                f"the column {name} holds {', '.join(hidden)}, which no text of a completion has: {WHY_HIDDEN}"
            )


def fit_memory(
    config: RunConfig, policy: Policy, engine: AnyEngine, prompts: Prompts, held_out: Sequence[Prompt], team: Team
) -> tuple[RunConfig, int]:
    """Choose the size of microbatches and whether a forward pass is reused, where they are `auto`.

    Returns the config with both and whether the engine is invariant, and the expected peak of this process in bytes,
    which writes the completions of its shards, one after the other. Raises UserError where the pass cannot be reused.
    """
    longest = max(len(prompt.tokens) for prompt in (*prompts.encoded.values(), *held_out)) + config.max_new_tokens
    evaluated = min(prompts_at_once(config), len(held_out))
    most = config.max_rollouts if config.prompts == "dynamic" else 1
    completions = max(most * config.prompts_per_step * config.samples_per_prompt, evaluated * config.evaluate.samples)
    recompute, size = config.model.gradient_checkpointing, config.microbatch_size
    if size == "auto":
        size = microbatch_size(policy, longest, completions, config.samples_per_prompt, recompute=recompute)
    tokens = config.prompts_per_step * (longest + (config.samples_per_prompt - 1) * config.max_new_tokens)
    reuses, forward = config.reuse_forward, forward_bytes(policy, tokens)
    able = native_engine(engine) is not None and not recompute
    if reuses == "auto":
        reuses = able and policy.device.type == "cpu" and forward <= REUSED_SHARE * total_memory(policy.device)
    elif reuses and not able and not config.shard_model:  # a run may begin with it and go on without
        raise UserError(
            "a forward pass can be reused by the native engine alone, without gradient checkpointing",
            where="reuse_forward",
            fix="reuse_forward=false",
        )
    invariant = engine.invariant if config.invariant == "auto" else config.invariant
    assert isinstance(config.shards, int)
    shards = Shards(policy, engine, team, config.shards, UNITS if invariant else 0)
    own = [len(block) for block in shards.own(config.prompts_per_step)]
    asked = [len(block) for block in shards.own(evaluated)] if evaluated else []
    at_once = max(max(own) * config.samples_per_prompt, max(asked, default=0) * config.evaluate.samples)
    shape = longest, config.max_new_tokens, completions, size
    predict = partial(predicted_peak, at_once=at_once)
    peak = predict(policy, *shape, recompute=recompute, invariant=engine.invariant)
    if isinstance(engine, TwoModels):
        other = engine.other
        peak = max(peak, predict(other.policy, *shape, recompute=True, invariant=other.invariant, trained=False))
    if reuses and able:
        peak += forward * sum(own) // config.prompts_per_step
    decided = {"microbatch_size": size, "reuse_forward": reuses, "invariant": invariant}
    return config.model_copy(update=decided), peak


def check_memory(device: torch.device, peak: int, reporter: Reporter, lower: str) -> None:
    """Note that a step may need more memory than the device has; the system could then end the run without a word.

    On a CPU the processes that this one has started, as that of a reward's model, have their part of it. `lower` is
    what can be lowered to need less. Raises UserError where it needs HOPELESS times as much, so that no error of the
    prediction is to blame.
    """
    total = total_memory(device)
    peak += resident_of_children() if device.type == "cpu" else 0
    what = f"{peak / GIB:,.1f} GiB of memory, and there are {total / GIB:,.1f}"
    if peak > HOPELESS * total:
        raise UserError(f"a step would need {what}", fix=f"lower {lower}")
    if peak > total:
        reporter.note(f"a step may need {what}: take dtype=bfloat16 or a smaller model, or lower {lower}")


def check_evaluations(folder: Path, state: TrainState) -> None:
    """Raise UserError (exit 5) where evaluations.jsonl is not what the checkpoint saw: the result is read from it."""
    file = folder / EVALUATIONS
    if file.exists() and not state.logs.get("evaluations", Mark()).fits(content_of(file)):
        raise bad_run(
            f"{EVALUATIONS} is not what the checkpoint saw",
            file,
            "bring back the file as it was, or move it away: the run then ends without a held-out comparison",
        )


def go_back(folder: Path, state: TrainState, reporter: Reporter) -> None:
    """Take the folder back to the moment at which `state` was saved: newer checkpoints, log lines and a result go."""
    abandon(folder / CHECKPOINTS, state.step)
    for name, file in LOGS.items():
        orphan = cut_back(folder / file, state.logs.get(name, Mark()))
        if orphan is not None:
            reporter.note(f"{file} is not what the checkpoint saw; kept as {orphan.name}")
    (folder / RESULT).unlink(missing_ok=True)  # it describes another end of the run
