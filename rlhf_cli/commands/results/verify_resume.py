"""`rlhf verify-resume RUN`: repeat the last steps of a run, and compare them bit for bit."""

from dataclasses import asdict
from typing import Final

from rlhf_cli.commands.parts.parser import Parser
from rlhf_cli.commands.parts.repeating import differs, repeating
from rlhf_cli.display.printing import print_json
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.runs.lock import hold
from rlhf_cli.runs.resume import find_last_stretch, find_named

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
and not after a change of evaluate.every that no later checkpoint has.

  rlhf verify-resume outputs/2026-11-22/13-37-05
  rlhf audit RUN        other stretches of it, chosen at random, and all files"""


def main(argv: list[str]) -> None:
    """Repeat and compare. Prints the verdict to stdout, progress to stderr."""
    parser = Parser(prog="rlhf verify-resume", description=ABOUT, epilog=EXAMPLES)
    parser.add_argument("run", metavar="RUN", help="a run's folder or latest, with two checkpoints at least")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the code that came with the model")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(argv)
    origin, newer = find_last_stretch(find_named(options.run))
    notes = tuple(f"skipped {folder.name}: {reason}" for folder, reason in origin.skipped)
    signals = StopSignals()
    with (
        signals.installed(),
        hold(origin.folder, only_read=True, instead="run"),
        repeating(origin.folder, origin.checkpoint, signals, trusts=options.trust_remote_code, notes=notes) as repeat,
    ):
        verdict = repeat(origin.checkpoint, newer)
    if options.json:
        print_json({"identical": verdict.divergence is None, **asdict(verdict)})
    if verdict.divergence is not None:
        raise differs(verdict.divergence, origin.checkpoint)
    if not options.json:
        print(f"identical: {verdict.describe()}")
