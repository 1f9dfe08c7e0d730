"""`rlhf eval RUN [RUN]`: a trained policy against its reference or another one, prompt by prompt."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final

from rlhf_cli.commands.parts.answering import Decoding, answer_all, read_prompts
from rlhf_cli.commands.parts.exporting import consent_of
from rlhf_cli.commands.parts.harnessing import ask_harness
from rlhf_cli.commands.parts.parser import Parser, at_least, number, temperature
from rlhf_cli.commands.parts.ready import check_sources, code_notices
from rlhf_cli.config.compose import amend
from rlhf_cli.config.keys import did_you_mean
from rlhf_cli.config.security import refuse_unsaid_trust
from rlhf_cli.display.printing import print_result
from rlhf_cli.display.verbs.eval import show_sides
from rlhf_cli.display.watchers import progress
from rlhf_cli.errors import EXIT_RESUME, UserError, visible
from rlhf_cli.evaluation.sides import compare_sides
from rlhf_cli.paths import expand
from rlhf_cli.report.sides_page import html
from rlhf_cli.report.writing import check_page, write_page
from rlhf_cli.rewards.columns import check_rows
from rlhf_cli.runs.folder import ADAPTER
from rlhf_cli.runs.kind import check_verb
from rlhf_cli.runs.resume import find_adapter, find_named, missing_folder, read_config
from rlhf_cli.schedules import Controlled
from rlhf_cli.schema import RunConfig
from rlhf_cli.sweep.growth import final_beta

ABOUT: Final = """\
A trained policy against its reference, or against the policy of another run, on
the run's held-out prompts or on all of other data: reward and every part, KL,
length, distinct n-grams, repetition, pass@k and majority@k where every reward is
0 or 1, and how often it wins; with 95 % intervals, paired by prompt. With
--harness: the tasks of lm-eval, policy against reference."""

EXAMPLES: Final = """\
The reward, the random streams and the seed are those of the (first) run.

  rlhf eval latest
  rlhf eval outputs/a outputs/b --page compared.html
  rlhf eval RUN data=jsonl data.path=new.jsonl evaluate.samples=8 --json
  rlhf eval RUN --temperature 0                    greedy, one completion
  rlhf eval RUN --harness arc_easy,./mine.yaml     benchmarks, by lm-eval"""

FREE: Final = (
    "data", "reward", "evaluate", "max_new_tokens", "microbatch_size", "device", "dtype", "seed", "threads",
)  # fmt: skip
"""Settings that may be changed: those that do not choose the policy."""


def main(argv: list[str]) -> None:
    """Sample, score, compare; results on stdout, progress on stderr."""
    options = _parser().parse_intermixed_args(argv)
    paths, overrides = _split(options.words)
    page = expand(options.page) if options.page else None
    if page is not None:
        check_page(page, overwrite=False, fix="--page FILE")
    decoding = Decoding(options.temperature, options.top_k, options.top_p, options.min_p)
    if options.harness is not None:
        _refuse_beside_harness(options, decoding, paths)
        ask_harness(options, paths[0], overrides)
        return
    for given in ("limit", "chat_template"):
        if getattr(options, given):
            option = f"--{given.replace('_', '-')}"
            raise UserError(f"{option} is for lm-eval", where="rlhf eval", fix="add --harness TASKS, or leave it out")
    found = [find_adapter(path) for path in paths]
    if len({adapter for adapter, _ in found}) < len(found):
        fix = "name one, or two checkpoints of the run"
        raise UserError("both are the same policy", where=str(found[0][0]), fix=fix)
    consent = consent_of(options)
    saved = [read_config(run) for _, run in found]
    for (_, run), config_of_run in zip(found, saved, strict=True):
        check_verb(config_of_run, "train", run, "only runs of rlhf train have a reward to evaluate by")
    configs = [amend(one, consent) for one in saved]
    for config in configs:
        refuse_unsaid_trust(config, consent, EXIT_RESUME, how="--trust-remote-code")
    evaluate = [] if options.temperature else ["evaluate.samples=1"]
    if evaluate and any(one.startswith("evaluate.samples=") for one in overrides if one not in evaluate):
        what, fix = "greedy completions are all the same", "leave it out, or --temperature 1"
        raise UserError(what, where="evaluate.samples", fix=fix)
    config = amend(configs[0].model_dump(mode="json"), [*overrides, *evaluate])
    check_sources(config)
    watch = progress(config.display)
    watch.note_all(code_notices(config))
    rows = read_prompts(config, [run for _, run in found], overrides, watch)
    check_rows(config.reward.source, rows.held_out)
    # both are judged by the first run's reward, with its settings; the second brings its model, adapter and reference
    own = [{"model": other.model, "reference": other.reference} for other in configs[1:]]
    models = [config, *(config.model_copy(update=brought) for brought in own)]
    own_reward = not any(override.startswith("reward") for override in overrides)
    sides, prompts = answer_all(models, found, rows, decoding, watch, own_reward=own_reward)
    beta = None if isinstance(config.beta, Controlled) else final_beta(config)
    compared = compare_sides(sides[0], sides[1], len(prompts), beta if decoding == Decoding() else None)
    names = _names(found)
    row = {"a": names[0], "b": names[1], "decoding": asdict(decoding), **asdict(compared)}
    print_result(row, partial(show_sides, compared, names, options.temperature), as_json=options.json, indent=None)
    if page is not None:
        write_page(page, html(compared, sides, prompts, names), overwrite=False)
        print(f"written to {visible(str(page))}", file=sys.stderr)


def _split(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The folders among the words, and the settings; raises UserError for what is neither."""
    paths, overrides = list[Path](), list[str]()
    for word in words:
        path = find_named(word)
        if path.is_dir():  # a trial's folder may hold an equals sign
            paths.append(path)
        elif "=" not in word:
            raise missing_folder(path, word)
        elif (key := word.partition("=")[0].split(".")[0]) not in RunConfig.model_fields:
            raise UserError(f"unknown setting {key!r}{did_you_mean(key, FREE)}", where=word)
        elif key not in FREE:
            raise UserError(f"{key} belongs to the run", where=word, fix=f"change only {', '.join(FREE)}")
        else:
            overrides.append(word)
    if not 1 <= len(paths) <= 2:
        raise UserError("give one run or two", where="rlhf eval", fix="rlhf eval RUN, or rlhf eval RUN RUN")
    return paths, overrides


def _refuse_beside_harness(options: argparse.Namespace, decoding: Decoding, paths: Sequence[Path]) -> None:
    """Raise UserError for what does not go with --harness."""
    if len(paths) > 1:
        raise UserError("--harness takes one run", where="rlhf eval", fix="rlhf eval RUN --harness TASKS")
    if options.page or decoding != Decoding():
        fix = "leave out --page, --temperature, --top-k, --top-p and --min-p"
        raise UserError("lm-eval's tasks choose the decoding, and have no page", where="--harness", fix=fix)


def _names(found: Sequence[tuple[Path, Path]]) -> tuple[str, str]:
    """The names of the two sides: the folders of the runs, with the checkpoint where one is named by itself."""
    names = [run.name if adapter.name == ADAPTER else f"{run.name} {adapter.name}" for adapter, run in found]
    if len(names) == 1:
        return names[0], "reference"
    return (names[0], names[1]) if names[0] != names[1] else (str(found[0][0]), str(found[1][0]))


def _parser() -> Parser:
    parser = Parser(prog="rlhf eval", description=ABOUT, epilog=EXAMPLES)
    parser.add_argument("words", metavar="RUN|KEY=VALUE", nargs="+", help="one run or two, or latest; data and such")
    parser.add_argument("--temperature", type=temperature, default=1.0, metavar="T", help="0: greedy (default 1)")
    parser.add_argument("--top-k", type=at_least(1), metavar="K", help="sample from the K likeliest tokens")
    parser.add_argument("--top-p", type=number(0, 1), default=1.0, metavar="P", help="from those with this mass")
    parser.add_argument("--min-p", type=number(0, 1), default=0.0, metavar="P", help="from this share of the top one")
    parser.add_argument("--page", metavar="FILE", help="write a page with all completions side by side")
    parser.add_argument("--harness", metavar="TASKS", help="lm-eval's tasks instead: names or YAML files, by commas")
    parser.add_argument("--limit", type=at_least(1), metavar="N", help="with --harness: the first N documents a task")
    parser.add_argument("--chat-template", action="store_true", help="with --harness: prompts as the model's chats")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the code that came with a model")
    return parser
