"""`rlhf feedback FOLDER config=...`: rounds of sampling, voting, training a reward model, and training from it."""

import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rlhf_cli.commands.parts.parser import Parser, at_least, number
from rlhf_cli.commands.parts.rounds import SHARED, do_round, reward_model_config
from rlhf_cli.commands.results.report import write_after_training
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.display.console import ResultConsole
from rlhf_cli.display.following import PROMPT, print_next
from rlhf_cli.display.printing import print_json
from rlhf_cli.errors import Stopped, UserError, visible
from rlhf_cli.paths import expand, quoted, relative_to_here
from rlhf_cli.plural import plural
from rlhf_cli.prompts.rows import read_rows
from rlhf_cli.report.rounds_page import summary, verdict
from rlhf_cli.rounds.folder import FeedbackSettings, Round, keep_settings, make_folder, rounds_in
from rlhf_cli.rounds.truth import read_truth
from rlhf_cli.runs.changes import is_free
from rlhf_cli.runs.folder import REPORT
from rlhf_cli.runs.lock import hold
from rlhf_cli.schema import RunConfig, TrainingConfig
from rlhf_cli.settings import flatten
from rlhf_cli.supervised.settings import SupervisedConfig

ABOUT: Final = """\
Rounds of learning from preferences, all in one folder. A round samples two
completions of each prompt by the present policy, collects votes, trains a
reward model on all votes so far, and trains the policy from it, anew from the
reference. The votes are those of people (rlhf label), or of a simulated
annotator whose hidden reward is that of the config: then the page shows the
true reward beside the reward model's. The same command goes on after a stop."""

ALIKE: Final = ("steps", "evaluate.every")
"""Settings that a resumed run may change, but that all rounds share."""
OWN: Final = ("run_dir=", "sweep_dir=", "resume=", "seeds=", "jobs=")
"""Overrides that name a folder or several runs."""
GOES_ON: Final = "; the same command of rlhf feedback goes on"
EXAMPLES: Final = """\
  rlhf feedback outputs/loop config=tiny --pairs 128
  rlhf feedback outputs/loop config=tiny --pairs 128 --rounds 3
  rlhf feedback outputs/ours config=./run.yaml --annotator person --pairs 64"""


def main(argv: list[str]) -> None:
    """Do what is left of the rounds, then say how the true reward changed in each; progress goes to stderr."""
    begun, options = time.monotonic(), _parser().parse_intermixed_args(argv)
    words, folder = _split(options.reward_model), expand(options.folder).absolute()
    config, own = _compose(options.overrides, words, simulated=options.annotator == "simulated")
    settings = FeedbackSettings(
        overrides=tuple(options.overrides),
        reward_model=words,
        rounds=options.rounds,
        pairs=options.pairs,
        annotator=options.annotator,
        noise=options.noise,
        ties=options.ties,
        config={**_bound(config), **{f"reward_model.{key}": value for key, value in _bound(own).items()}},
    )
    _check_pairs(settings.pairs, own)
    rows = read_rows(config)
    make_folder(folder)
    rounds = rounds_in(folder, settings.rounds)
    with hold(folder, what="folder of rounds", instead="FOLDER"):
        keep_settings(folder, settings)
        try:
            for one in rounds:
                try:
                    do_round(one, rounds[: one.number], config, rows, settings, begun)
                finally:
                    write_after_training(folder)
        except KeyboardInterrupt as error:  # a run turns it into Stopped itself
            raise Stopped(f"interrupted{GOES_ON}", resumable=True) from error
        except Stopped as stop:
            stop.reason += GOES_ON
            raise
    measured = {one.number: truth for one in rounds if (truth := read_truth(one.truth))}
    if config.display == "json":
        print_json({"folder": str(folder), "rounds": [summary(*each) for each in measured.items()]})
        return
    for number_of_round, truth in measured.items():
        print(verdict(number_of_round, truth))
    print(visible(f"page        {relative_to_here(folder / REPORT)}"))
    if config.display != "quiet":
        print_next(ResultConsole(), _following(argv, rounds[-1], evaluated=config.evaluate.every > 0))


def _following(argv: Sequence[str], last: Round, *, evaluated: bool) -> list[str]:
    """Commands that ask the last policy, let people compare it, and add a round."""
    policy, parser = quoted(last.policy), Parser(add_help=False)
    parser.add_argument("--rounds")
    again = shlex.join(["rlhf", "feedback", *parser.parse_known_args(argv)[1], "--rounds", str(last.number + 1)])
    label = [f"rlhf label {policy}"] if evaluated else []
    return [f"rlhf generate {policy} --reference {shlex.quote(PROMPT)}", *label, again]


def _split(words: str) -> tuple[str, ...]:
    """The settings of `--reward-model`; raises UserError for a quote without its end."""
    try:
        return tuple(shlex.split(words))
    except ValueError as error:
        raise UserError(f"{error}: {words}", where="--reward-model", fix="close the quote") from error


def _compose(
    overrides: Sequence[str], of_reward_model: Sequence[str], *, simulated: bool
) -> tuple[RunConfig, SupervisedConfig]:
    """The configs of the policy, whose reward is the hidden one, and of a reward model, but for its folder and data.

    Raises UserError where they fit no round.
    """
    for override in (*overrides, *of_reward_model):
        if override.startswith(OWN):
            what, fix = f"{override.partition('=')[0]} is for one run", "leave it out: each round has its own folders"
            raise UserError(what, where="rlhf feedback", fix=fix)
    for override in of_reward_model:
        key = override.lstrip("+~").partition("=")[0]
        if (group := key.partition(".")[0]) in SHARED:
            what, fix = f"{group} is the same for the policy and its reward model", "give it outside of --reward-model"
            raise UserError(what, where="--reward-model", fix=fix)
        if key in ("data", "data.path"):
            what, fix = "a reward model learns from the votes of the rounds", f"leave {key} out"
            raise UserError(what, where="--reward-model", fix=fix)
    config = compose_config(overrides)
    if simulated:
        if not config.evaluate.every:
            what = "without evaluations the true reward cannot be measured"
            raise UserError(what, where="evaluate.every", fix="evaluate.every=20, say")
        config.reward.source.check("reward")
    return config, reward_model_config(Round(1, Path()), config, of_reward_model)


def _bound(config: TrainingConfig) -> dict[str, str]:
    """The settings that decide what is learnt, as JSON by dotted name; where the rows of the votes are does not."""
    left_out = () if isinstance(config, RunConfig) else ("data.path",)
    return {
        key: json.dumps(value)
        for key, value in flatten(config.model_dump(mode="json"))
        if key in ALIKE or not (is_free(key, type(config)) or key in left_out)
    }


def _check_pairs(pairs: int, reward_model: SupervisedConfig) -> None:
    """Raise UserError where the votes of a round are too few to train on: their folder could not be used any more."""
    held_out = reward_model.evaluate.prompts if reward_model.evaluate.every else 0
    if (least := reward_model.prompts_per_step + held_out) > pairs:
        raise UserError(
            f"{plural(pairs, 'pair')}, fewer than a reward model's step and its held-out rows: "
            f"{reward_model.prompts_per_step} and {held_out}",
            where="--pairs",
            fix=f"give at least {least}, or lower them: --reward-model 'prompts_per_step=8 evaluate.prompts=16'",
        )


def _parser() -> Parser:
    parser = Parser(prog="rlhf feedback", description=ABOUT, epilog=EXAMPLES)
    parser.usage = "rlhf feedback FOLDER [KEY=VALUE ...] [options]"
    parser.add_argument("folder", metavar="FOLDER", help="where the rounds are, or will be")
    parser.add_overrides()
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
        type=str,
        default="",
        metavar="'KEY=VALUE ...'",
        help="settings of rlhf reward train, in one word: 'steps=100 optimizer.lr=1e-4'",
    )
    return parser
