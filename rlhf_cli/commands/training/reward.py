"""`rlhf reward train ...`: train a reward model. `rlhf reward test ...`: test a reward on completions."""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Final

from rlhf_cli.commands.parts.parser import Parser, at_least, number
from rlhf_cli.commands.parts.ready import check_sources, compose_new
from rlhf_cli.commands.parts.supervising import run_verb
from rlhf_cli.config.arguments import quote
from rlhf_cli.data.order import split_by_weight
from rlhf_cli.display.printing import print_result
from rlhf_cli.display.verbs.reward import show_examination
from rlhf_cli.display.watchers import progress
from rlhf_cli.errors import EXIT_DONE, EXIT_REWARD, UserError
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.models.location import code_notice
from rlhf_cli.plural import plural
from rlhf_cli.prompts.rows import Rows, read_all, with_evaluations
from rlhf_cli.reporter import Reporter
from rlhf_cli.rewards.columns import check_rows
from rlhf_cli.rewards.examine import Group, examine, group_completions
from rlhf_cli.rewards.execution.scorer import SourceScorer
from rlhf_cli.schema import RunConfig
from rlhf_cli.verbs import REWARD_TRAIN

ABOUT: Final = """\
Test any reward: its scores, failures, time, ties and correlation with length;
and whether a score depends on the other completions of the call, on the moment,
or on the seed. The reference writes the completions, to prompts of the data, or
a file has them. Nothing is trained and nothing is written."""

EXAMPLES: Final = """\
A line of FILE is {"prompt": ..., "completion": ...}, with the columns that the
reward takes; the samples.jsonl of a run is such a file. The exit code is 4 where
something is wrong (a failure, or a score that cannot be repeated or depends on
the other completions), with --strict also where something is worth a look.

  rlhf reward test reward=python reward.function=rewards.py:f --completions c.jsonl
  rlhf reward test config=./my-run.yaml --prompts 32 --samples 4
  rlhf reward test config=./my-run.yaml --completions RUN/samples.jsonl --json"""

PROMPTS: Final = 32
SAMPLES: Final = 4
TEST: Final = "test"
TRAIN: Final = "train"


def main(argv: list[str]) -> int:
    """Train a reward model; or collect completions, examine the reward and print: results on stdout."""
    if argv[:1] == [TRAIN]:
        return run_verb(REWARD_TRAIN, argv[1:])
    fix = f"rlhf reward {TEST} ... or rlhf reward {TRAIN} ..."
    if not argv:
        raise UserError("no verb 'reward' alone", fix=fix)
    options = _parser().parse_intermixed_args(argv)
    if options.verb != TEST:
        raise UserError(f"unknown verb 'reward {options.verb}'", fix=fix)
    if options.completions and (options.prompts or options.samples):
        what, fix = "a file has its own prompts and completions", "leave --prompts and --samples out"
        raise UserError(what, where="--completions", fix=fix)
    config = _config(options.overrides, options.completions)
    check_sources(config)
    watch = progress(config.display)
    if notice := config.reward.source.notice():
        watch.note(notice)
    rows = read_all(config, watch)
    check_rows(config.reward.source, rows.held_out)
    if notice:  # a function that cannot be called is not worth the texts of a model
        with SourceScorer(config.reward.source, rows.columns, None):
            pass
    if options.completions:
        groups = group_completions(rows.held_out)
    else:
        groups = _sample_reference(config, rows, options.prompts or PROMPTS, options.samples or SAMPLES, watch)
    batch = options.batch or config.prompts_per_step * config.samples_per_prompt
    with watch.phase("the reward scores", 0):
        examination = examine(config.reward.source, groups, batch=batch, slow_s=options.slow, seed=config.seed)
    row = asdict(examination) | {"verdict": examination.verdict}
    print_result(row, partial(show_examination, examination, groups), as_json=options.json)
    refused = ("wrong", "look") if options.strict else ("wrong",)
    return EXIT_REWARD if examination.verdict in refused else EXIT_DONE


def _config(overrides: Sequence[str], completions: str | None) -> RunConfig:
    """The config of a run that is never evaluated, so that no prompt is held out.

    A file of completions needs neither a model nor data: those of the smallest preset stand in, unless one is named.
    """
    if completions is not None:
        preset = [] if any(override.startswith("config=") for override in overrides) else ["config=tiny"]
        overrides = [*preset, *overrides, "data=jsonl", f"data.path={quote(completions)}"]
    return with_evaluations(compose_new(overrides), 0)


def _sample_reference(config: RunConfig, rows: Rows, prompts: int, samples: int, watch: Reporter) -> list[Group]:
    """Let the reference write `samples` completions of each of the first `prompts` prompts."""
    counts = split_by_weight([part.weight for part in rows.parts], prompts)
    parts = zip(rows.parts, counts, strict=True)
    first = (replace(part, held_out=part.held_out[:count], left_out=Counter(), more=False) for part, count in parts)
    rows = Rows(tuple(first))
    if len(rows.held_out) < prompts:
        watch.note(f"{plural(len(rows.held_out), 'prompt')}, fewer than --prompts {prompts}")
    if notice := code_notice(config.model):
        watch.note(notice)
    with watch.phase("loading torch and transformers", 0):
        import_libraries()
        from rlhf_cli.pipeline.completions import reference_texts
    temperature = config.temperature.at(0, config.steps)
    return [Group(row, texts) for row, texts in reference_texts(config, rows, samples, temperature, watch)]


def _parser() -> Parser:
    parser = Parser(prog="rlhf reward test", description=ABOUT, epilog=EXAMPLES)
    parser.usage = "rlhf reward test [KEY=VALUE ...] [--completions FILE] [options]"
    parser.add_argument("verb", metavar=TEST, help=argparse.SUPPRESS)
    parser.add_overrides()
    parser.add_argument("--completions", type=_file, metavar="FILE", help="jsonl; default: the reference writes them")
    parser.add_argument("--prompts", type=at_least(1), metavar="N", help=f"prompts of the data (default {PROMPTS})")
    parser.add_argument("--samples", type=at_least(1), metavar="N", help=f"completions of each (default {SAMPLES})")
    parser.add_argument("--batch", type=at_least(1), metavar="N", help="completions a call (default: those of a step)")
    parser.add_argument("--slow", type=number(0), default=1.0, metavar="S", help="a slow call, in seconds (default 1)")
    parser.add_argument("--strict", action="store_true", help="exit code 4 also for a finding worth a look")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    return parser


def _file(text: str) -> str:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"no such file: {text}")
    return text
