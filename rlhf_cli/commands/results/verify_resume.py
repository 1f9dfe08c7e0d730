"""`rlhf verify-resume RUN`: repeat the last steps of a run, and compare them bit for bit."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from rlhf_cli.commands.parts.parser import Parser
from rlhf_cli.commands.parts.ready import code_notices
from rlhf_cli.config.compose import amend
from rlhf_cli.config.security import TRUST, refuse_unsaid_trust
from rlhf_cli.display.watchers import progress
from rlhf_cli.errors import EXIT_DONE, EXIT_RESUME, UserError
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.prompts.rows import read_rows
from rlhf_cli.runs.checkpoint import step_of
from rlhf_cli.runs.kind import check_verb
from rlhf_cli.runs.lock import hold
from rlhf_cli.runs.resume import find_last_stretch, read_config

ABOUT: Final = """\
Resumes a run from its last checkpoint but one, in a temporary folder, trains up
to the last one, and compares what both have: every line of metrics.jsonl,
samples.jsonl and evaluations.jsonl, the adapter, the value head, the
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
    origin, newer = find_last_stretch(Path(options.run))
    signals = StopSignals()
    with signals.installed(), hold(origin.folder, only_read=True):
        saved = read_config(origin.folder, origin.checkpoint)
        check_verb(saved, "train", origin.folder, "only runs of rlhf train can be verified so")
        config = amend(saved, [])  # as it was: the command line only consents
        consent = [f"model.{TRUST}=true"] if options.trust_remote_code else []
        refuse_unsaid_trust(config, consent, EXIT_RESUME, how="--trust-remote-code")
        rows = read_rows(config)
        watch = progress(config.display)
        for folder, reason in origin.skipped:
            watch.note(f"skipped {folder.name}: {reason}")
        for notice in code_notices(config):
            watch.note(notice)
        with watch.phase("loading torch and transformers", 0):
            import_libraries()
            from rlhf_cli.verify.repeat import repeat
        verdict = repeat(config, rows, origin, newer, watch, signals)
    if (divergence := verdict.divergence) is not None:
        raise UserError(
            f"not identical from step {divergence.step} on: {divergence.quantity}: {divergence.what}",
            where=f"resumed from step {step_of(origin.checkpoint)}",
            fix=FIXES.get(divergence.quantity, "repeat it on the machine, libraries and threads that run.json names"),
            exit_code=EXIT_RESUME,
        )
    print(f"identical: {verdict.describe()}")
    return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="rlhf verify-resume", description=ABOUT, epilog=EXAMPLES, formatter_class=layout)
    parser.add_argument("run", metavar="RUN", help="a run's folder, with two checkpoints at least")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the code that came with the model")
    return parser
