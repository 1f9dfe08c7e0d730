"""`rlhf verify-resume RUN`: repeat the last steps of a run, and compare them bit for bit."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rlhf_cli.commands.parts.parser import Parser
from rlhf_cli.commands.parts.ready import code_notices
from rlhf_cli.config.compose import amend_for
from rlhf_cli.config.security import TRUST, refuse_unsaid_trust
from rlhf_cli.display.watchers import progress
from rlhf_cli.errors import EXIT_DONE, EXIT_RESUME, UserError
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.prompts.rows import read_rows
from rlhf_cli.reporter import Reporter
from rlhf_cli.rewards.execution.scorer import Scorer
from rlhf_cli.runs.checkpoint import step_of
from rlhf_cli.runs.kind import verb_of
from rlhf_cli.runs.lock import hold
from rlhf_cli.runs.resume import Origin, find_last_stretch, find_named, read_config
from rlhf_cli.schema import RunConfig, TrainingConfig
from rlhf_cli.supervised.settings import SupervisedConfig
from rlhf_cli.verbs import Verb, find_verb

if TYPE_CHECKING:
    from rlhf_cli.verify.repeat import Verdict

ABOUT: Final = """\
Resumes a run of any training from its last checkpoint but one, in a temporary
folder, trains up to the last one, and compares what both have: every line of
metrics.jsonl, samples.jsonl and evaluations.jsonl, the adapter, the head, the
optimizer's moments and the state. The run itself is only read, but it is held
meanwhile: it cannot be resumed before this ends."""

EXAMPLES: Final = """\
Exit code 0: identical. 5: not, and the first quantity that differs is named, in
the order completions, scores, metrics, evaluation, weights, optimizer, state.
It takes as long as these steps did. It holds on a machine of the same type with
the same library versions, for a reward that gives the same text the same score,
and not across a change of steps or evaluate.every between the two checkpoints.

  rlhf verify-resume outputs/2026-11-22/13-37-05"""

FIXES: Final = {"scores": "the reward has to give the same completion the same score"}
"""Fixes by the quantity that differs first, where the machine is not to blame."""


def main(argv: list[str]) -> int:
    """Repeat and compare. Prints the verdict to stdout, progress to stderr."""
    options = _parser().parse_args(argv)
    origin, newer = find_last_stretch(find_named(options.run))
    signals = StopSignals()
    with signals.installed(), hold(origin.folder, only_read=True, instead="run"):
        saved = read_config(origin.folder, origin.checkpoint)
        verb: Verb[TrainingConfig] | None = find_verb(verb_of(saved).split())
        assert verb is not None
        config = amend_for(verb, saved, [])  # as it was: the command line only consents
        consent = [f"model.{TRUST}=true"] if options.trust_remote_code else []
        refuse_unsaid_trust(config, consent, EXIT_RESUME, how="--trust-remote-code")
        watch = progress(config.display)
        for folder, reason in origin.skipped:
            watch.note(f"skipped {folder.name}: {reason}")
        verdict = _repeat(config, origin, newer, watch, signals)
    if options.json:
        print(json.dumps({"identical": verdict.divergence is None, **asdict(verdict)}))
    if (divergence := verdict.divergence) is not None:
        raise UserError(
            f"not identical from step {divergence.step} on: {divergence.quantity}: {divergence.what}",
            where=f"resumed from step {step_of(origin.checkpoint)}",
            fix=FIXES.get(divergence.quantity, "repeat it on the machine, libraries and threads that run.json names"),
            exit_code=EXIT_RESUME,
        )
    if not options.json:
        print(f"identical: {verdict.describe()}")
    return EXIT_DONE


def _repeat(config: TrainingConfig, origin: Origin, newer: Path, watch: Reporter, signals: StopSignals) -> Verdict:
    """Repeat the stretch, by the loop of the run's verb."""
    rows = read_rows(config)
    for notice in code_notices(config):
        watch.note(notice)
    with watch.phase("loading torch and transformers", 0):
        import_libraries()
        from rlhf_cli.pipeline.assemble import assemble
        from rlhf_cli.pipeline.loop import train
        from rlhf_cli.supervised.assemble import assemble as assemble_supervised
        from rlhf_cli.supervised.loop import train as train_supervised
        from rlhf_cli.verify.repeat import repeat

    if isinstance(config, SupervisedConfig):
        own = config
        return repeat(
            origin,
            newer,
            watch,
            lambda folder: assemble_supervised(own, rows, folder, watch, signals, origin),
            train_supervised,
        )
    assert isinstance(config, RunConfig)
    plain = config.model_copy(update={"profile": False, "on_no_signal": "warn", "on_alarm": "warn"})
    with Scorer(config.reward, rows.columns, log=None) as scorer:
        return repeat(
            origin, newer, watch, lambda folder: assemble(plain, rows, folder, scorer, watch, signals, origin), train
        )


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="rlhf verify-resume", description=ABOUT, epilog=EXAMPLES, formatter_class=layout)
    parser.add_argument("run", metavar="RUN", help="a run's folder or latest, with two checkpoints at least")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the code that came with the model")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser
