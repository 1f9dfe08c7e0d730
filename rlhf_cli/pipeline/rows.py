"""What is read or looked for before any model is loaded: the prompts, divided; the model and the reward."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_cli.data.jsonl import read_prompts
from rlhf_cli.data.order import held_out_rows
from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.models.source import find
from rlhf_cli.schema import RunConfig
from rlhf_cli.types import PromptRow


@dataclass(frozen=True, slots=True)
class Rows:
    """The prompts as they were read."""

    train: list[PromptRow]
    held_out: list[PromptRow]

    @property
    def columns(self) -> set[str]:
        """The names of all columns but the prompt."""
        return {name for row in (*self.train, *self.held_out) for name in row.columns}


def read_rows(config: RunConfig) -> Rows:
    """The prompt files, the held-out rows set aside; raises UserError (exit 3) for anything wrong in them."""
    train, count = read_prompts(config.data.path), config.evaluate.prompts
    if config.data.eval_path is not None:
        held_out = read_prompts(config.data.eval_path)[:count]
    elif config.evaluate.every == 0:
        held_out = []
    else:
        kept, aside = held_out_rows(len(train), min(count, len(train)), config.seed)
        train, held_out = [train[row] for row in kept], [train[row] for row in aside]
    if config.evaluate.every and len(held_out) < count:
        raise UserError(
            f"{len(held_out)} held-out prompts, fewer than evaluate.prompts={count}",
            where=config.data.eval_path or config.data.path,
            fix="give more prompts, lower evaluate.prompts, or switch evaluation off (evaluate.every=0)",
            exit_code=EXIT_DATA,
        )
    return Rows(train, held_out)


def check_sources(config: RunConfig) -> None:
    """Raise UserError where the model's folder, or something that the reward needs, is not there."""
    if config.model.kind == "pretrained":
        find(config.model)
    config.reward.source.check("reward")


def check_enough(count: int, config: RunConfig) -> None:
    """Raise UserError (exit 3) where `count` training prompts do not make one step."""
    if count < config.prompts_per_step:
        raise UserError(
            f"{count} training prompts, fewer than prompts_per_step={config.prompts_per_step}",
            where=config.data.path,
            fix="give more prompts, or lower prompts_per_step (or evaluate.prompts, which sets some aside)",
            exit_code=EXIT_DATA,
        )
