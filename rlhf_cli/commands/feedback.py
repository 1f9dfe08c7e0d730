"""`rlhf feedback FOLDER config=...`: rounds of sampling, voting, training a reward model, and training from it."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Sequence
from typing import Final

from rlhf_cli.commands.parser import Parser, at_least, number
from rlhf_cli.commands.parts.rounds import do_round
from rlhf_cli.commands.report import write_after_training
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.errors import EXIT_DONE, UserError, visible
from rlhf_cli.paths import expand, relative_to_here
from rlhf_cli.prompts.rows import read_rows
from rlhf_cli.report.rounds_page import summary, verdict
from rlhf_cli.rounds.folder import FeedbackSettings, keep_settings, rounds_in
from rlhf_cli.rounds.truth import read_truth
from rlhf_cli.runs.folder import REPORT
from rlhf_cli.runs.lock import hold
from rlhf_cli.schema import RunConfig

ABOUT: Final = """\
Rounds of learning from preferences, all in one folder. A round samples two
completions of each prompt by the present policy, collects votes, trains a
reward model on all votes so far, and trains the policy from it, anew from the
reference. The votes are those of people (rlhf label), or of a simulated
annotator whose hidden reward is that of the config: then the page shows the
true reward beside the reward model's. The same command goes on after a stop."""

OWN: Final = ("run_dir=", "sweep_dir=", "resume=", "seeds=", "jobs=")
"""Overrides that name a folder or several runs."""
FREE: Final = ("display=", "time_limit=")
"""Overrides that may differ when the rounds go on."""
EXAMPLES: Final = """\
  rlhf feedback outputs/loop config=tiny --pairs 128
  rlhf feedback outputs/loop config=tiny --pairs 128 --rounds 3
  rlhf feedback outputs/ours config=./run.yaml --annotator person --pairs 64"""


def main(argv: list[str]) -> int:
    """Do what is left of the rounds, then say how the true reward changed in each; progress goes to stderr."""
    begun, options = time.monotonic(), _parser().parse_intermixed_args(argv)
    settings = FeedbackSettings(
        overrides=tuple(override for override in options.overrides if not override.startswith(FREE)),
        reward_model=tuple(shlex.split(options.reward_model)),
        rounds=options.rounds,
        pairs=options.pairs,
        annotator=options.annotator,
        noise=options.noise,
        ties=options.ties,
    )
    folder, config = expand(options.folder).absolute(), _compose(options.overrides, settings)
    rows = read_rows(config)
    keep_settings(folder, settings)
    rounds = rounds_in(folder, settings.rounds)
    with hold(folder):
        for one in rounds:
            try:
                do_round(one, rounds[: one.number], config, rows, settings, begun)
            finally:
                write_after_training(folder)
    measured = {one.number: truth for one in rounds if (truth := read_truth(one.truth))}
    if config.display == "json":
        print(json.dumps({"folder": str(folder), "rounds": [summary(*each) for each in measured.items()]}))
        return EXIT_DONE
    for number_of_round, truth in measured.items():
        print(verdict(number_of_round, truth))
    print(visible(f"page        {relative_to_here(folder / REPORT)}"))
    return EXIT_DONE


def _compose(overrides: Sequence[str], settings: FeedbackSettings) -> RunConfig:
    """The config of the policy, whose reward is the hidden one; raises UserError where it fits no round."""
    for override in overrides:
        if override.startswith(OWN):
            what, fix = f"{override.partition('=')[0]} is for one run", "leave it out: each round has its own folders"
            raise UserError(what, where="rlhf feedback", fix=fix)
    config = compose_config(overrides)
    if settings.simulated:
        if not config.evaluate.every:
            what = "without evaluations the true reward cannot be measured"
            raise UserError(what, where="evaluate.every", fix="evaluate.every=20, say")
        config.reward.source.check("reward")
    return config


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="rlhf feedback", description=ABOUT, epilog=EXAMPLES, formatter_class=layout)
    parser.usage = "rlhf feedback FOLDER [KEY=VALUE ...] [options]"
    parser.add_argument("folder", metavar="FOLDER", help="where the rounds are, or will be")
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="as for rlhf train: preset, YAML, settings")
    parser.add_argument("--rounds", type=at_least(1), default=2, metavar="N", help="rounds in all (default 2)")
    parser.add_argument("--pairs", type=at_least(2), default=128, metavar="N", help="pairs of a round (default 128)")
    parser.add_argument(
        "--annotator",
        choices=("simulated", "person"),
        default="simulated",
        help="who votes: the hidden reward of the config, or people by rlhf label",
    )
    parser.add_argument(
        "--noise",
        type=number(1e-9),
        default=0.2,
        metavar="R",
        help="difference of rewards at which 73 %% of the simulated votes go to the better (default 0.2)",
    )
    parser.add_argument(
        "--ties",
        type=number(0.0, 0.99),
        default=0.05,
        metavar="P",
        help="share of ties among simulated votes on equal rewards (default 0.05)",
    )
    parser.add_argument(
        "--reward-model",
        default="",
        metavar="'KEY=VALUE ...'",
        help="settings of rlhf reward train, in one word: 'steps=100 optimizer.lr=1e-4'",
    )
    return parser
