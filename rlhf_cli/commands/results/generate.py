"""`rlhf generate RUN "prompt"`: the answers of a trained policy, and of its reference beside them."""

from __future__ import annotations

import argparse
import io
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_cli.commands.parts.parser import Parser, at_least, number
from rlhf_cli.config.compose import amend_for
from rlhf_cli.config.security import TRUST, refuse_unsaid_trust
from rlhf_cli.display.words import flat
from rlhf_cli.errors import EXIT_DONE, EXIT_RESUME, UserError, visible
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.models.location import code_notice
from rlhf_cli.paths import expand, relative_to_here
from rlhf_cli.runs.kind import verb_of
from rlhf_cli.runs.resume import find_adapter, find_latest_run, read_config
from rlhf_cli.schema import RunConfig, TrainingConfig
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import PromptBatch, PromptRow
from rlhf_cli.verbs import REWARD_TRAIN, find_verb


def main(argv: list[str]) -> int:
    """Answer every prompt; results on stdout, progress on stderr."""
    options = _parser().parse_intermixed_args(argv)
    if options.samples > 1 and not options.temperature:
        raise UserError("greedy answers are all the same", where="--samples", fix="add --temperature 1")
    rows = [PromptRow(text, {}, f"prompt {i}") for i, text in enumerate(_prompts(options.prompts), start=1)]
    path = find_latest_run(Path("outputs")) if options.run == "latest" else expand(options.run).absolute()
    adapter, run = find_adapter(path)
    overrides = [f"device={options.device}"] if options.device else []
    overrides += [f"model.{TRUST}=true"] if options.trust_remote_code else []
    config = _config(read_config(run), overrides, run)
    refuse_unsaid_trust(config, overrides, EXIT_RESUME, how="--trust-remote-code")
    if notice := code_notice(config.model):
        _note(notice)

    print(f"loading the model, with {relative_to_here(adapter)} ...", file=sys.stderr)
    import_libraries()
    from rlhf_cli.engine.choice import build_engine
    from rlhf_cli.engine.opening import load_policy, open_policy
    from rlhf_cli.functional.sampling import Sampling

    policy = load_policy(config, _note) if isinstance(config, RunConfig) else open_policy(config, _note)
    policy.load_adapter(adapter)
    engine = build_engine(policy, config.model, _note)
    limit = options.max_new_tokens or config.max_new_tokens
    for row in rows:
        prompt = policy.encode(row)
        if len(prompt.tokens) + limit > policy.context:
            raise UserError(
                f"{len(prompt.tokens)} prompt tokens and {limit} new ones do not fit into the model's {policy.context}",
                where=row.where,
                fix="shorten the prompt, or lower --max-new-tokens",
            )
        seeds = tuple(seed_for(options.seed, "generate", sample) for sample in range(options.samples))
        batch = PromptBatch((prompt,), options.samples, seeds)
        texts = engine.sample(batch, Sampling(limit, options.temperature), lambda: None).texts
        if not options.reference:
            print(*map(_shown, texts), sep="\n")
            continue
        reference = engine.sample(batch, Sampling(limit, options.temperature), lambda: None, reference=True).texts
        print(f"prompt     {_shown(row.shown)}")
        for before, after in zip(reference, texts, strict=True):
            print(f"reference  {_shown(before)}\npolicy     {_shown(after)}")
        print()
    return EXIT_DONE


def _config(saved: Mapping[str, Any], overrides: Sequence[str], run: Path) -> TrainingConfig:
    """The settings of the run; raises UserError where it trained a model that does not write."""
    verb = find_verb(verb_of(saved).split())
    if verb is None or verb == REWARD_TRAIN:
        raise UserError(
            "a reward model scores texts, and writes none",
            where=str(run),
            fix=f"rlhf reward test reward=model reward.path={shlex.quote(str(run))}",
            exit_code=EXIT_RESUME,
        )
    return amend_for(verb, saved, overrides)


def _note(text: str) -> None:
    print(f"note: {visible(text)}", file=sys.stderr)


def _shown(text: str) -> str:
    """Return the text as it is for a pipe or a file; as one line without control characters for a terminal."""
    return flat(text) if sys.stdout.isatty() else text


def _prompts(words: Sequence[str]) -> list[str]:
    """The prompts of the command line, or else the lines of stdin."""
    try:
        if isinstance(sys.stdin, io.TextIOWrapper):  # in any locale
            sys.stdin.reconfigure(encoding="utf-8", errors="strict")
        prompts = list(words) if words or sys.stdin.isatty() else [line.rstrip("\n") for line in sys.stdin]
        "".join(prompts).encode()  # bytes that are no UTF-8 arrive as halves of surrogate pairs
    except UnicodeError as error:
        raise UserError("a prompt is not UTF-8 text", where="rlhf generate", fix="give it as UTF-8") from error
    prompts = [prompt for prompt in prompts if prompt.strip()]
    if not prompts:
        fix = 'give one: rlhf generate RUN "prompt", or one a line on stdin'
        raise UserError("no prompt", where="rlhf generate", fix=fix)
    return prompts


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="rlhf generate", description="Let a trained policy answer prompts.")
    parser.add_argument("run", metavar="RUN", help="a run's folder, one of its checkpoints, or latest")
    parser.add_argument("prompts", metavar="PROMPT", nargs="*", help="prompts; without any, one a line from stdin")
    parser.add_argument("--reference", action="store_true", help="show the reference's answer beside the policy's")
    parser.add_argument("--temperature", type=number(0), default=0.0, metavar="T", help="0: greedy (default)")
    parser.add_argument("--samples", type=at_least(1), default=1, metavar="N", help="sampled answers to each prompt")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the samples (default 0)")
    parser.add_argument("--max-new-tokens", type=at_least(1), metavar="N", help="longest answer (default: the run's)")
    parser.add_argument("--device", metavar="D", help="auto, cpu, cuda, ... (default: the run's)")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the code that came with the model")
    return parser
