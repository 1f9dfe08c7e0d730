"""Examples made by hand, and the settings of a small run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rlhf_cli.data.preference import Lesson
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.ranks.team import Team
from rlhf_cli.runs.resume import find_origin
from rlhf_cli.supervised.assemble import assemble
from rlhf_cli.supervised.batches import Example, make_batch
from rlhf_cli.supervised.objectives.objective import Batch
from rlhf_cli.supervised.run import SupervisedRun
from rlhf_cli.supervised.settings import SupervisedConfig
from rlhf_cli.types import Message, PromptRow
from tests.unit.support import Recorder, config_fields, rows_of, tiny

SFT = {"kind": "sft", "completion": "completion"}
DPO = {"kind": "dpo", "chosen": "chosen", "rejected": "rejected", "beta": 0.5, "label_smoothing": 0.0}
BRADLEY_TERRY = {"kind": "bradley_terry", "chosen": "chosen", "rejected": "rejected", "reads": "auto", "centre": 0.01}

_OF_RL = (
    "reward", "algorithm", "kl", "beta", "temperature", "samples_per_prompt", "top_k", "top_p", "min_p",
    "exact_kl_every", "log_samples", "profile", "sweep_dir", "seeds", "jobs",
)  # fmt: skip


def settings_fields(objective: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The fields of a small run, as a YAML would give them."""
    fields = {name: value for name, value in config_fields().items() if name not in _OF_RL}
    return fields | {"objective": objective, "patience": None, "evaluate": {"every": 2, "prompts": 2}} | changes


def settings_of(objective: dict[str, Any], **changes: Any) -> SupervisedConfig:
    """A small run; `changes` replace whole fields."""
    return SupervisedConfig.model_validate(settings_fields(objective, **changes))


def row_of(number: int = 1, prompt: str | tuple[Message, ...] = "Say a.", **columns: Any) -> PromptRow:
    """A row of a file, with the columns of a pair and of a completion unless others are given."""
    return PromptRow(
        prompt, columns or {"completion": "abc", "chosen": "abc", "rejected": "zz"}, f"rows.jsonl:{number}"
    )


def example_of(policy: Policy, prompt: str, *texts: str, share: float = 1.0, margin: float = 0.0) -> Example:
    """A prompt with completions of bytes, each with the end token of the tiny model."""
    encoded = [policy.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    completions = tuple((*tokens, policy.end_tokens[0]) for tokens in encoded)
    return Example((policy.encode(PromptRow(prompt, {}, "test:1")),), completions, Lesson(texts, share, margin))


def batch_of(policy: Policy, examples: Sequence[Example]) -> Batch:
    """The examples on the CPU."""
    return make_batch(examples, policy.pad_token, torch.device("cpu"))


def pairs(count: int, first: int = 1) -> list[PromptRow]:
    """Rows that prefer the letter of the prompt to another, which is also the completion to imitate."""
    letters = [("abcdefgh"[n % 8], "stuvwxyz"[n % 8]) for n in range(first, first + count)]
    return [
        row_of(n, prompt=f"{n} {good}:", completion=good * 3, chosen=good * 3, rejected=bad * 3)
        for n, (good, bad) in enumerate(letters, start=first)
    ]


ROWS = rows_of(pairs(8), pairs(4, first=9))


def run_of(
    folder: Path,
    objective: dict[str, Any],
    *,
    resumed: bool = False,
    lr: float = 0.03,
    team: Team | None = None,
    **changes: Any,
) -> SupervisedRun:
    """A small run in the folder, fresh or resumed from its newest checkpoint; its reporter is a Recorder."""
    folder.mkdir(exist_ok=True)
    small = {
        "model": tiny(layers=1).model_dump(mode="json"),
        "optimizer": config_fields()["optimizer"] | {"lr": lr},
        "checkpoint": {"every": 99, "keep": 9, "keep_best": True, "max_failures": 1},
        "evaluate": {"every": 2, "prompts": 4},
        "steps": 3,
        "prompts_per_step": 4,
        "microbatch_size": 8,
        "sinks": [],
    }
    config = settings_of(objective, **(small | changes))
    origin = find_origin(str(folder)) if resumed else None
    return assemble(config, ROWS, folder, Recorder(), StopSignals(), origin, team=team)
