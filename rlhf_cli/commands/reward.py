"""`rlhf reward test ...`: any reward on the bench, over data or over completions that there are."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from rlhf_cli.commands.parser import Parser, at_least
from rlhf_cli.commands.ready import check_sources
from rlhf_cli.config.arguments import quote
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.data.order import split_by_weight
from rlhf_cli.display.reward import show_examination
from rlhf_cli.display.watchers import progress
from rlhf_cli.errors import EXIT_DATA, EXIT_DONE, EXIT_REWARD, EXIT_USAGE, UserError
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.models.location import code_notice
from rlhf_cli.prompts.rows import Rows, read_rows
from rlhf_cli.reporter import Reporter
from rlhf_cli.rewards.examine import Group, examine
from rlhf_cli.schema import RunConfig
from rlhf_cli.types import PromptRow

ABOUT: Final = """\
Any reward on the bench: scores, failures, time, ties, correlation with length,
and whether a score depends on what stands beside the completion, on the moment,
or on the seed. The completions are the reference's to prompts of the data, or
those of a file. Nothing is trained and nothing is written."""

EXAMPLES: Final = """\
A file of completions has {"prompt": ..., "completion": ...} a line, and the
columns that the reward takes; samples.jsonl of a run is one. The exit code is 4
where something is wrong (failures, a score that depends on its batch or cannot
be repeated), with --strict also where something is worth a look.

  rlhf reward test reward=python reward.function=rewards.py:f --completions c.jsonl
  rlhf reward test config=./my-run.yaml --prompts 32 --samples 4
  rlhf reward test config=./my-run.yaml --completions RUN/samples.jsonl --json"""

TEST: Final = "test"


def main(argv: list[str]) -> int:
    """Score, compare, print; results on stdout, progress on stderr."""
    options = _parser().parse_intermixed_args(argv)
    if options.verb != TEST:
        raise UserError(f"unknown verb 'reward {options.verb}'", fix=f"rlhf reward {TEST} ...", exit_code=EXIT_USAGE)
    given = options.completions
    if given:  # neither the run's model nor its data is used: those of a preset stand in, unless one is named
        named = any(override.startswith("config=") for override in options.overrides)
        preset = [] if named else ["config=tiny"]
        config = compose_config([*preset, *options.overrides, "data=jsonl", f"data.path={quote(given)}"])
    else:
        config = compose_config(options.overrides)
    config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"every": 0})})
    check_sources(config)
    watch = progress(config.display)
    if notice := config.reward.source.notice():
        watch.note(notice)
    rows = read_rows(config)
    groups = _of_file(rows.train) if given else _of_reference(config, rows, options.prompts, options.samples, watch)
    with watch.phase("the reward scores", 0):
        found = examine(
            config.reward.source,
            groups,
            columns=sorted({name for group in groups for name in group.row.columns}),
            log=None,
            batch=options.batch or config.prompts_per_step * config.samples_per_prompt,
            slow_s=options.slow,
            seed=config.seed,
            tick=lambda: None,
        )
    if options.json:
        print(json.dumps(asdict(found) | {"verdict": found.verdict}, indent=2, allow_nan=False))
    else:
        show_examination(found, groups)
    return EXIT_REWARD if found.verdict in (("wrong", "look") if options.strict else ("wrong",)) else EXIT_DONE


def _of_reference(config: RunConfig, rows: Rows, prompts: int, samples: int, watch: Reporter) -> list[Group]:
    parts = [(part, split_by_weight([p.weight for p in rows.parts], prompts)[n]) for n, part in enumerate(rows.parts)]
    rows = Rows(tuple(replace(part, held_out=part.train[:count]) for part, count in parts))
    if notice := code_notice(config.model):
        watch.note(notice)
    with watch.phase("loading torch and transformers", 0):
        import_libraries()
        from rlhf_cli.pipeline.reference import reference_texts
    temperature = config.temperature.at(0, config.steps)
    return [Group(row, texts) for row, texts in reference_texts(config, rows, samples, temperature, watch)]


def _of_file(rows: Sequence[PromptRow]) -> list[Group]:
    """The completions in a column of that name; lines with the same prompt and columns are a group, wherever they are.

    Raises UserError (exit 3) for a line without a completion.
    """
    groups: dict[str, tuple[PromptRow, list[str]]] = {}
    for row in rows:
        columns = dict(row.columns)
        completion = columns.pop("completion", None)
        if isinstance(completion, list) and len(completion) == 1 and isinstance(completion[0], dict):
            completion = completion[0].get("content")  # as chat data has it
        if not isinstance(completion, str):
            raise UserError(
                "no completion" if completion is None else "a completion that is no text",
                where=row.where,
                fix='write {"prompt": "...", "completion": "..."}',
                exit_code=EXIT_DATA,
            )
        same = json.dumps([str(row.prompt), {k: v for k, v in columns.items() if k not in OF_A_SAMPLE}], sort_keys=True)
        groups.setdefault(same, (PromptRow(row.prompt, columns, row.where), []))[1].append(completion)
    return [Group(row, tuple(texts)) for row, texts in groups.values()]


OF_A_SAMPLE: Final = ("step", "score", "kl", "truncated")
"""What a run's samples.jsonl has besides: of the completion, not of the prompt."""


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="rlhf reward test", description=ABOUT, epilog=EXAMPLES, formatter_class=layout)
    parser.usage = "rlhf reward test [KEY=VALUE ...] [--completions FILE] [options]"
    parser.add_argument("verb", metavar=TEST, help=argparse.SUPPRESS)
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="as for rlhf train: preset, YAML, settings")
    parser.add_argument("--completions", type=_file, metavar="FILE", help="jsonl; default: the reference writes them")
    parser.add_argument("--prompts", type=at_least(1), default=32, metavar="N", help="prompts of the data (default 32)")
    parser.add_argument("--samples", type=at_least(1), default=4, metavar="N", help="completions of each (default 4)")
    parser.add_argument("--batch", type=at_least(1), metavar="N", help="completions a call (default: those of a step)")
    parser.add_argument("--slow", type=float, default=1.0, metavar="S", help="a slow call, in seconds (default 1)")
    parser.add_argument("--strict", action="store_true", help="exit code 4 also for what is worth a look")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    return parser


def _file(text: str) -> str:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"no such file: {text}")
    return text
