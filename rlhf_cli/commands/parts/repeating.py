"""Repeat stretches of a run of any training, for `verify-resume` and `audit`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from rlhf_cli.commands.parts.ready import code_notices
from rlhf_cli.config.compose import amend_for
from rlhf_cli.config.security import TRUST, refuse_unsaid_trust
from rlhf_cli.display.watchers import progress
from rlhf_cli.errors import EXIT_RESUME, UserError, bad_run
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.prompts.rows import read_rows
from rlhf_cli.rewards.execution.scorer import Scorer
from rlhf_cli.runs.binding import read_steps_of
from rlhf_cli.runs.checkpoint import step_of
from rlhf_cli.runs.resume import Origin, read_config
from rlhf_cli.schema import RunConfig, TrainingConfig
from rlhf_cli.supervised.settings import SupervisedConfig
from rlhf_cli.verbs import verb_of_run

if TYPE_CHECKING:
    from rlhf_cli.verify.divergence import Divergence
    from rlhf_cli.verify.repeat import T, Verdict

C = TypeVar("C", bound=TrainingConfig)

Repeat: TypeAlias = "Callable[[Path | None, Path], Verdict]"
"""Repeats the steps from the older checkpoint (None: the settings alone) to the newer one."""

FIXES: Final = {"scores": "the reward has to give the same completion the same score"}
"""Fixes by the quantity that differs first, where the machine is not to blame."""


@contextmanager
def repeating(
    folder: Path, checkpoint: Path, signals: StopSignals, *, trusts: bool, notes: tuple[str, ...] = ()
) -> Iterator[Repeat]:
    """Load what the run in `folder` needs, and give the function that repeats a stretch of it, by its verb's own loop.

    `checkpoint` is one whose settings the run has now; with `trusts`, code that came with the model may run. Raises
    UserError as a resume does.
    """
    saved = read_config(folder, checkpoint)
    config = amend_for(verb_of_run(saved), saved, [])  # as it was: the command line only consents
    refuse_unsaid_trust(config, [f"model.{TRUST}=true"] if trusts else [], EXIT_RESUME, how="--trust-remote-code")
    config = config.model_copy(update={"sinks": ()})  # these steps are on the run's curves already
    watch = progress(config.display)
    watch.note_all(notes)
    rows = read_rows(config)
    watch.note_all(code_notices(config))
    with watch.phase("loading torch and transformers", 0):
        import_libraries()
        from rlhf_cli.engine.opening import THREADS
        from rlhf_cli.pipeline.assemble import assemble
        from rlhf_cli.pipeline.loop import train
        from rlhf_cli.supervised.assemble import assemble as assemble_supervised
        from rlhf_cli.supervised.loop import train as train_supervised
        from rlhf_cli.verify.repeat import repeat

    if config.processes > 1 and config.threads is None:  # each of them had its part of the machine's
        config = config.model_copy(update={"threads": max(1, THREADS // config.processes)})

    def repeat_by(config: C, resume: Callable[[C, Path, Origin | None], T], train: Callable[[T, int], None]) -> Repeat:
        def repeat_from(older: Path | None, newer: Path) -> Verdict:
            origin = Origin(folder, older, ()) if older else None
            if (steps := read_steps_of(folder, newer)) is None:
                watch.note(f"{newer.name} is of other settings than the present ones, by which its steps are repeated")
            then = config if steps is None else config.model_copy(update={"steps": steps})
            return repeat(folder, older, newer, watch, lambda scratch: resume(then, scratch, origin), train)

        return repeat_from

    if isinstance(config, SupervisedConfig):
        yield repeat_by(
            config,
            lambda then, at, origin: assemble_supervised(then, rows, at, watch, signals, origin),
            train_supervised,
        )
        return
    assert isinstance(config, RunConfig)
    plain = config.model_copy(update={"profile": False, "on_no_signal": "warn", "on_alarm": "warn"})
    with Scorer(config.reward, rows.columns, log=None) as scorer:
        yield repeat_by(plain, lambda then, at, origin: assemble(then, rows, at, scorer, watch, signals, origin), train)


def differs(divergence: Divergence, older: Path | None) -> UserError:
    """The error (exit 5) of a stretch that came out otherwise; `older` is the checkpoint that it begins at."""
    return bad_run(
        f"not identical from step {divergence.step} on: {divergence.quantity}: {divergence.what}",
        f"resumed from step {step_of(older)}" if older else "begun anew",
        FIXES.get(divergence.quantity, "repeat it on the machine, libraries and threads that run.json names"),
    )
