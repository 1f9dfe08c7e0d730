"""The `data` group."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlhf_cli.settings import FilePath, Settings


class Jsonl(Settings):
    """Prompts from jsonl files: one object a line, with `prompt` (text, or chat messages) and any other columns."""

    kind: Literal["jsonl"]
    path: FilePath
    """Training prompts."""
    eval_path: FilePath | None
    """Held-out prompts; null sets evaluate.prompts rows of `path` aside, chosen by the seed."""
    max_prompt_tokens: int = Field(ge=1)
    """The longest prompt, in the policy's tokens, chat template included."""
    too_long: Literal["error", "drop"]
    """What becomes of longer prompts: stop and name the first one, or leave them out and say how many."""
