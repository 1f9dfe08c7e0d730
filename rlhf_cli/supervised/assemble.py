"""SupervisedConfig and rows -> SupervisedRun: load the model and fit the parts together, fresh or from a checkpoint."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from rlhf_cli.engine.memory import microbatch_size, predicted_peak
from rlhf_cli.models.classifier import check_classifier
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline.assemble import check_evaluations, check_memory, settle
from rlhf_cli.pipeline.record import record_of
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.pipeline.state import read_state
from rlhf_cli.pipeline.work import Clock, Work
from rlhf_cli.prompts.rows import Rows
from rlhf_cli.ranks.team import Team
from rlhf_cli.reporter import Reporter
from rlhf_cli.runs.resume import Origin
from rlhf_cli.supervised.batches import Example
from rlhf_cli.supervised.duties import DUTIES
from rlhf_cli.supervised.examples import Examples, encode_examples
from rlhf_cli.supervised.run import SupervisedRun
from rlhf_cli.supervised.settings import SupervisedConfig

PHASES: Final = ("update", "checkpoint")
"""Phases of every lap."""


def assemble(
    config: SupervisedConfig,
    rows: Rows,
    folder: Path,
    reporter: Reporter,
    signals: StopSignals,
    origin: Origin | None,
    command: Sequence[str] = (),
    team: Team | None = None,
) -> SupervisedRun:
    """Build a run in `folder`, at step 0 or at the origin's checkpoint.

    The record keeps the `command` that begins a run with these settings. Without a `team` this process calculates all
    shards.
    Raises UserError for rows, models and settings that do not fit together.
    """
    if origin is not None:
        check_evaluations(folder, read_state(origin.checkpoint))
    team = team or Team()
    with reporter.phase("loading the model", 0):
        policy, engine = team.open(DUTIES, config, reporter.note)
    if config.objective.scores:
        check_classifier(policy)  # now, not at the end
    examples, held_out = encode_examples(rows, policy, config, reporter)
    if config.shards == "auto":
        config = config.model_copy(update={"shards": team.size})
    config, peak = fit_memory(config, policy, examples, held_out)
    assert isinstance(config.microbatch_size, int)
    check_memory(policy.device, peak, reporter, "microbatch_size, or the length of the texts")
    record = record_of(config, policy, engine.name, rows, None, predicted_peak=peak, command=command)
    state, optimizer, saver, logbook = settle(config, folder, record, policy, origin, reporter)
    size = min(config.microbatch_size, state.microbatch_size or config.microbatch_size)
    return SupervisedRun(
        config=config,
        folder=folder,
        policy=policy,
        engine=engine,
        optimizer=optimizer,
        examples=examples,
        held_out=held_out,
        saver=saver,
        team=team,
        logbook=logbook,
        work=Work(size, reporter, signals, Clock(every=PHASES)),
        state=state,
    )


def fit_memory(
    config: SupervisedConfig, policy: Policy, examples: Examples, held_out: Sequence[Example]
) -> tuple[SupervisedConfig, int]:
    """Choose the size of microbatches where it is `auto`; return the config with it, and the expected peak in bytes."""
    each, recompute, size = config.objective.completions, config.model.gradient_checkpointing, config.microbatch_size
    longest = max(example.longest for example in chain(examples.encoded.values(), held_out))
    if size == "auto":
        size = microbatch_size(policy, longest, config.prompts_per_step * each, each, recompute=recompute)
    peak = predicted_peak(policy, longest, 0, 0, size, recompute=recompute)  # nothing is sampled
    return config.model_copy(update={"microbatch_size": size}), peak
