"""`rlhf oracle config=...`: the optimum before any training; `rlhf oracle RUN`: a run's policy at other betas."""

import argparse
import math
from dataclasses import asdict
from functools import partial
from typing import Final

from rlhf_cli.commands.parts.parser import Parser, at_least
from rlhf_cli.commands.parts.ready import check_sources, code_notices, compose_new
from rlhf_cli.display.printing import print_result
from rlhf_cli.display.verbs.oracle import show_dial, show_oracle
from rlhf_cli.display.watchers import progress
from rlhf_cli.errors import UserError, bad_run
from rlhf_cli.evaluation.dial import dial
from rlhf_cli.evaluation.oracle import oracle
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.prompts.rows import read_rows, with_evaluations
from rlhf_cli.runs.folder import CONFIG
from rlhf_cli.runs.json_files import read_object
from rlhf_cli.runs.kind import check_verb
from rlhf_cli.runs.reading import read_first_and_last
from rlhf_cli.runs.resume import find_named, find_origin
from rlhf_cli.schedules import Controlled
from rlhf_cli.sweep.growth import final_beta

SAMPLES: Final = 64
FACTORS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the run's own beta
ABOUT: Final = """\
The optimum of E[r] - beta KL(policy || reference) in closed form, estimated
from completions of the reference: what training could reach at each beta, how
far from the reference that is, and what the best of n completions would give
instead. Nothing is trained and nothing is written.

With a RUN: its policy at other betas, decoded between reference and policy by
pi_ref^(1-w) pi^w, w = the run's beta / beta, estimated from the completions of
its last evaluation. No model is loaded."""

EXAMPLES: Final = """\
To see an optimum at a KL of k nats takes about e^(k + 3) samples a prompt: 64
show one at 1.2 nats, 1000 one at 3.9. What cannot be seen is marked.

  rlhf oracle config=tiny
  rlhf oracle config=./my-run.yaml --betas 0.05,0.1,0.2 --samples 256
  rlhf oracle evaluate.prompts=16 temperature=1.3 --json > oracle.json
  rlhf oracle RUN --betas 0.02,0.05,0.1"""


def main(argv: list[str]) -> None:
    """Sample the reference and print; results on stdout, progress on stderr."""
    options = _parser().parse_intermixed_args(argv)
    if any("=" not in word for word in options.overrides):
        _turn_dial(options)
        return
    # also a run that is never evaluated gets held-out prompts here
    config = with_evaluations(compose_new(options.overrides), 1)
    temperature, beta = config.temperature.at(config.steps - 1, config.steps), final_beta(config)
    betas = options.betas or [factor * beta for factor in FACTORS]
    if not all(betas):
        raise UserError("beta is 0, which has no optimum", where="beta", fix="name some: --betas 0.02,0.05,0.1")
    check_sources(config)
    rows = read_rows(config)

    watch = progress(config.display)
    if isinstance(config.beta, Controlled):
        watch.note(f"beta={config.beta.kind} changes during the run; {beta:g} is its first value")
    if (config.top_k, config.top_p, config.min_p) != (None, 1.0, 0.0):
        watch.note("the run would sample a truncated policy; this is the optimum of the whole one")
    watch.note_all(code_notices(config))
    with watch.phase("loading torch and transformers", 0):
        import_libraries()
        from rlhf_cli.pipeline.completions import reference_rewards
    rewards = reference_rewards(config, rows, options.samples or SAMPLES, temperature, watch)
    estimate = oracle(rewards, sorted(betas), beta, temperature)
    print_result(asdict(estimate), partial(show_oracle, estimate), as_json=options.json)


def _turn_dial(options: argparse.Namespace) -> None:
    """Print a run's policy at other betas."""
    if len(options.overrides) > 1:
        raise UserError("a run has its settings", where="rlhf oracle RUN", fix="leave the other arguments out")
    if options.samples is not None:
        raise UserError("a run has its completions, and none is sampled", where="--samples", fix="leave it out")
    folder = find_origin(str(find_named(options.overrides[0]))).folder
    check_verb(read_object(folder / CONFIG), "train", folder, "only runs of rlhf train have a beta")
    evaluation = read_first_and_last(folder)[1]
    if evaluation is None or not evaluation.beta:
        why = "it was not evaluated after a step" if evaluation is None else "its beta is 0"
        raise bad_run(f"this run has no other betas: {why}", folder)
    betas = options.betas or [factor * evaluation.beta for factor in FACTORS]
    points = dial(evaluation, sorted(betas))
    print_result([asdict(point) for point in points], partial(show_dial, points, evaluation), as_json=options.json)


def _parser() -> Parser:
    parser = Parser(prog="rlhf oracle", description=ABOUT, epilog=EXAMPLES)
    parser.add_argument("overrides", metavar="KEY=VALUE|RUN", nargs="*", help="as for rlhf train, or a RUN")
    parser.add_argument("--betas", type=_betas, metavar="B,B,...", help="default: the run's own, and 1/4 to 4 times it")
    parser.add_argument("--samples", type=at_least(2), metavar="N", help=f"samples of a prompt (default {SAMPLES})")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables and a plot")
    return parser


def _betas(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(0 < value < math.inf for value in values):
        raise argparse.ArgumentTypeError(f"numbers above 0, with commas between them (got {text})")
    return values
