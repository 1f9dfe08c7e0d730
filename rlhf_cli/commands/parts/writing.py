"""Load a trained policy to write texts: what `generate` and `chat` share."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf_cli.commands.parts.exporting import consent_of, read_writer
from rlhf_cli.commands.parts.parser import at_least, temperature
from rlhf_cli.display.printing import print_note
from rlhf_cli.errors import UserError
from rlhf_cli.evaluation.dial import FURTHEST
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.models.location import code_notice
from rlhf_cli.paths import relative_to_here
from rlhf_cli.runs.listing import read_last_metrics
from rlhf_cli.runs.reading import read_first_and_last
from rlhf_cli.runs.resume import find_adapter, find_named
from rlhf_cli.schedules import Controlled
from rlhf_cli.schema import RunConfig, TrainingConfig
from rlhf_cli.sweep.growth import final_beta
from rlhf_cli.types import Prompt, PromptRow

if TYPE_CHECKING:
    from rlhf_cli.engine.reference import AnyEngine
    from rlhf_cli.models.policy import Policy


@dataclass(frozen=True, slots=True)
class Writer:
    """A trained policy, and its reference, ready to answer."""

    config: TrainingConfig
    policy: Policy
    engine: AnyEngine
    limit: int
    """Tokens of the longest answer."""
    weight: float | None
    """The weight of the policy at another beta, as `weight_at` has it; None: its own."""

    def encode(self, row: PromptRow, how: str = "shorten the prompt") -> Prompt:
        """Encode a prompt; raises UserError where prompt and answer do not fit into the model: `how` makes room."""
        prompt = self.policy.encode(row)
        if len(prompt.tokens) + self.limit > self.policy.context:
            raise UserError(
                f"{len(prompt.tokens)} prompt tokens and {self.limit} new ones do not fit into the model's "
                f"{self.policy.context}",
                where=row.where,
                fix=f"{how}, or lower --max-new-tokens",
            )
        return prompt


def load_writer(options: argparse.Namespace, beta: float | None = None) -> Writer:
    """Load the policy of `options.run`, to write as if trained at `beta`.

    Raises UserError (exit 5) where there is none that writes, and where it has no such beta.
    """
    adapter, run = find_adapter(find_named(options.run))
    config = read_writer(run, [*consent_of(options), *([f"device={options.device}"] if options.device else [])])
    weight = None if beta is None else weight_at(beta, config, run)
    if notice := code_notice(config.model):
        print_note(notice)
    print(f"loading the model, with {relative_to_here(adapter)} ...", file=sys.stderr)
    import_libraries()
    from rlhf_cli.engine.choice import build_engine
    from rlhf_cli.engine.opening import open_policy
    from rlhf_cli.engine.reference import load_models
    from rlhf_cli.pipeline.record import note_model

    if isinstance(config, RunConfig):
        policy, engine = load_models(config.model_copy(update={"invariant": "auto"}), print_note)
    else:
        policy = open_policy(config, print_note)
        engine = build_engine(policy, config.model, print_note, "auto")
    note_model(run, policy, print_note)
    policy.load_adapter(adapter)
    return Writer(config, policy, engine, options.max_new_tokens or config.max_new_tokens, weight)


def weight_at(beta: float, config: TrainingConfig, run: Path) -> float:
    """The weight w of the policy that stands for training at another beta: w = the run's own beta / beta.

    Raises UserError for a beta of 0, and for a run without a beta.
    """
    if not isinstance(config, RunConfig):
        raise UserError("only runs of rlhf train have a beta", where="--beta", fix="leave --beta out")
    own = _controlled_beta(run) if isinstance(config.beta, Controlled) else final_beta(config)
    if not own or not beta or own / beta > FURTHEST:
        fix = f"both above 0, and the second at least {own / FURTHEST:.2g}"
        raise UserError(f"there is no dial between beta {own:g} and {beta:g}", where="--beta", fix=fix)
    weight = own / beta
    beyond = "; beyond the policy, where nothing was trained" if weight > 1 else ""
    print_note(f"trained at beta {own:g}: the weight of the policy is {weight:.3g}, token by token{beyond}")
    return weight


def _controlled_beta(run: Path) -> float:
    """The beta of the run's last evaluation, or else of its last step; 0 where no file has it."""
    if (last := read_first_and_last(run)[1]) is not None:
        return last.beta
    beta = read_last_metrics(run)[1].get("beta")
    return beta if isinstance(beta, float) else 0.0


def note_template(config: TrainingConfig) -> None:
    """Note a template that the run's prompts were written by, which typed ones do without."""
    if (template := getattr(config.data, "template", None)) is not None:
        print_note(f"the prompts in training are written by {template!r}; yours are taken as they are")


def lines_of_stdin(verb: str) -> Iterator[str]:
    """Yield the lines of stdin as they come, of any system; raises UserError where one is not UTF-8."""
    if isinstance(sys.stdin, io.TextIOWrapper):  # in any locale
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="strict")
    try:
        for line in sys.stdin:
            yield line.rstrip("\r\n")
    except UnicodeError as error:
        raise not_text(verb) from error


def not_text(verb: str) -> UserError:
    """Say that a prompt holds bytes that are no text."""
    return UserError("a prompt is not UTF-8 text", where=f"rlhf {verb}", fix="give it as UTF-8")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what writes, and how."""
    parser.add_argument("--temperature", type=temperature, default=0.0, metavar="T", help="0: greedy (default)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of sampled answers (default 0)")
    parser.add_argument("--max-new-tokens", type=at_least(1), metavar="N", help="longest answer (default: the run's)")
    parser.add_argument("--device", metavar="D", help="auto, cpu, cuda, ... (default: the run's)")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the code that came with the model")
