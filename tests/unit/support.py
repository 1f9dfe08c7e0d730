"""Small things that many tests build: settings, policies, rollouts made by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from rlhf_cli.algorithms.placement import Placement, penalty
from rlhf_cli.data.jsonl import Jsonl
from rlhf_cli.engine import Engine
from rlhf_cli.engine.reading import measure_distance, read_values
from rlhf_cli.functional.kl import k1
from rlhf_cli.functional.losses import Aggregation, token_weights
from rlhf_cli.functional.returns import token_rewards
from rlhf_cli.models.building import build_policy
from rlhf_cli.models.policy import Policy
from rlhf_cli.models.settings import Lora, Model, Pretrained, Tiny
from rlhf_cli.models.value_head import ValueHead
from rlhf_cli.prompts.rows import PartRows, Rows
from rlhf_cli.reporter import Reporter
from rlhf_cli.schema import RunConfig
from rlhf_cli.types import Distance, Exact, Minibatch, Prompt, PromptBatch, PromptRow, Rollout, Scored


def lora(**changes: Any) -> Lora:
    """A small adapter on every linear layer."""
    fields = {"rank": 2, "alpha": 4.0, "target_modules": "all-linear", "dropout": 0.0, "rslora": False, "dora": False}
    return Lora(**(fields | changes))


def tiny(architecture: str = "llama", **changes: Any) -> Tiny:
    """The settings of a random model of 16 dimensions; `changes` that name a field of Lora go to the adapter."""
    adapter = {key: changes.pop(key) for key in tuple(changes) if key in Lora.model_fields}
    fields = {"kind": "tiny", "layers": 2, "width": 16, "context": 64, "seed": 0, "lora": lora(**adapter)}
    fields |= {"engine": "auto", "gradient_checkpointing": False}
    return Tiny(architecture=architecture, **(fields | changes))


def pretrained(path: Path | str, **changes: Any) -> Pretrained:
    """Settings of a model from a folder."""
    fields = {"kind": "pretrained", "revision": None, "adapter": None, "prompt_format": "auto", "lora": lora()}
    fields |= {"trust_remote_code": False, "engine": "auto", "gradient_checkpointing": False}
    return Pretrained.model_validate({"path": str(path)} | fields | changes)


def build(settings: Model, adapter_seed: int = 1, *, value_head: bool = False, shared_trunk: bool = False) -> Policy:
    """The policy in float32 on the CPU."""
    cpu, float32 = torch.device("cpu"), torch.float32
    head = partial(ValueHead, shared_trunk=shared_trunk) if value_head else None
    return build_policy(settings, cpu, float32, adapter_seed, head=head)


@torch.no_grad()
def move_adapter(policy: Policy, scale: float = 0.3, seed: int = 5) -> None:
    """Add noise to every weight of the adapter, as training would."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in policy.parameters().values():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)


def save_adapter(policy: Policy, folder: Path) -> None:
    """Write the adapter as the plain PEFT folder it is in a checkpoint."""
    for name, content in policy.adapter_files().items():
        (folder / name).write_bytes(content)


def logits_of(policy: Policy, tokens: Sequence[int]) -> Tensor:
    """The logits [T, V] of a plain forward pass of the library: no padding, no cache."""
    with torch.no_grad():
        logits: Tensor = policy.causal(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits[0]
    return logits


def batch_of(policy: Policy, texts: Sequence[str], samples: int = 1, first_seed: int = 100) -> PromptBatch:
    """The prompts `texts`, with the seeds first_seed, first_seed + 1, ..."""
    prompts = tuple(policy.encode(PromptRow(text, {}, f"test:{i}")) for i, text in enumerate(texts, start=1))
    return PromptBatch(prompts, samples, tuple(range(first_seed, first_seed + len(prompts) * samples)))


def rollout_of(
    mask: Sequence[Sequence[int]] | Tensor,
    *,
    samples: int = 1,
    logprobs: Tensor | None = None,
    tokens: Tensor | None = None,
    truncated: Sequence[bool] | None = None,
    texts: Sequence[str] | None = None,
    temperature: float = 1.0,
) -> Rollout:
    """A rollout made by hand out of its completion mask."""
    mask = torch.as_tensor(mask, dtype=torch.bool)
    rows = len(mask)
    prompts = tuple(
        Prompt(PromptRow(f"prompt {i}", {}, f"test:{i}"), f"prompt {i}", (1, 2)) for i in range(rows // samples)
    )
    return Rollout(
        batch=PromptBatch(prompts, samples, tuple(range(rows))),
        tokens=torch.zeros(mask.shape, dtype=torch.long) if tokens is None else tokens,
        completion_mask=mask,
        logprobs=torch.zeros(mask.shape) if logprobs is None else logprobs,
        hidden=torch.zeros(*mask.shape, 1),
        truncated=torch.tensor([False] * rows if truncated is None else list(truncated)),
        texts=tuple(f"text {i}" for i in range(rows)) if texts is None else tuple(texts),
        temperature=temperature,
        kept=None,
    )


def scored_of(
    rollout: Rollout,
    scores: Sequence[float] | Tensor,
    *,
    ref_logprobs: Tensor | None = None,
    exact_kl: Tensor | None = None,
    entropy: Tensor | None = None,
    values: Tensor | None = None,
    beta: float = 0.0,
    learnable: Tensor | None = None,
) -> Scored:
    """A scored rollout made by hand, with the rewards that the package computes."""
    zeros = torch.zeros_like(rollout.logprobs)
    scores = torch.as_tensor(scores, dtype=rollout.logprobs.dtype)
    ref_logprobs = zeros if ref_logprobs is None else ref_logprobs
    kl = k1(rollout.logprobs, ref_logprobs)
    return Scored(
        rollout=rollout,
        scores=scores,
        distance=Distance(
            ref_logprobs,
            kl,
            Exact(zeros if exact_kl is None else exact_kl, zeros if entropy is None else entropy),
            ref_hidden=None,
        ),
        beta=beta,
        rewards=token_rewards(scores, kl, beta, rollout.completion_mask),
        learnable=torch.ones(len(scores), dtype=torch.bool) if learnable is None else learnable,
        values=values,
    )


def scored_by(
    engine: Engine,
    rollout: Rollout,
    scores: Tensor,
    beta: float,
    *,
    kl: Placement = "reward",
    needs_value: bool = False,
    log_weights: Tensor | None = None,
) -> Scored:
    """A rollout with these scores, read by the engine's reference and value head."""
    rows = len(rollout.batch)
    distance = measure_distance(rollout, engine, rows, lambda: None, keep_hidden=kl == "exact")
    return Scored(
        rollout=rollout,
        scores=scores,
        distance=distance,
        beta=beta,
        rewards=token_rewards(scores, penalty(distance, kl), beta, rollout.completion_mask),
        learnable=torch.ones_like(rollout.truncated),
        values=read_values(rollout, engine, rows) if needs_value else None,
        log_weights=log_weights,
    )


def minibatch_of(
    advantages: Tensor,
    mask: Sequence[Sequence[int]] | Tensor,
    *,
    aggregation: Aggregation = "sum",
    max_new_tokens: int = 8,
    logprobs: Tensor | None = None,
    values: Tensor | None = None,
    returns: Tensor | None = None,
) -> Minibatch:
    """A whole update made by hand; its old log-probabilities are zero unless given."""
    weights = token_weights(torch.as_tensor(mask, dtype=torch.bool), aggregation, max_new_tokens).to(advantages)
    logprobs = torch.zeros_like(advantages) if logprobs is None else logprobs
    return Minibatch(logprobs, advantages, weights, values, returns)


SHAPING: Final = {
    "clip": None,
    "length_penalty": 0.0,
    "special_tokens": "auto",
    "truncated": "keep",
    "truncated_penalty": 1.0,
    "normalise": False,
}
"""Nothing is made of the scores."""


def data_fields(**changes: Any) -> dict[str, Any]:
    """The fields of data=jsonl, as a YAML would give them."""
    fields: dict[str, Any] = {
        "kind": "jsonl",
        "path": "prompts.jsonl",
        "eval_path": None,
        "prompt": "prompt",
        "template": None,
        "system": None,
        "first_words": None,
        "where": {},
        "dedup": False,
        "max_rows": None,
        "max_prompt_tokens": 32,
        "too_long": "error",
        "secrets": "error",
    }
    return fields | changes


def source_of(path: Path | str = "prompts.jsonl", **changes: Any) -> Jsonl:
    """data=jsonl with changes."""
    return Jsonl.model_validate(data_fields(path=str(path), **changes))


def rows_of(train: Sequence[PromptRow] = (), held_out: Sequence[PromptRow] = (), **data: Any) -> Rows:
    """Prompts as if they had been read by data=jsonl with the changes `data`."""
    return Rows((PartRows("", source_of(**data), 1.0, train, held_out, Counter()),))


def config_fields(**changes: Any) -> dict[str, Any]:
    """The fields of a small run, as a YAML would give them."""
    fields: dict[str, Any] = {
        "model": tiny().model_dump(mode="json"),
        "data": data_fields(),
        "reward": {"kind": "characters", "characters": "abc"} | SHAPING,
        "algorithm": {"kind": "rloo"},
        "beta": {"kind": "constant", "value": 0.05},
        "temperature": {"kind": "constant", "value": 1.0},
        "optimizer": {
            "kind": "adamw",
            "lr": 0.01,
            "schedule": "linear",
            "warmup_steps": 0,
            "betas": [0.9, 0.999],
            "eps": 1e-8,
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
        },
        "steps": 4,
        "prompts_per_step": 2,
        "samples_per_prompt": 2,
        "max_new_tokens": 8,
        "top_k": None,
        "top_p": 1.0,
        "min_p": 0.0,
        "kl": "reward",
        "exact_kl_every": 1,
        "microbatch_size": "auto",
        "evaluate": {"every": 2, "prompts": 2, "samples": 1},
        "checkpoint": {"every": 2, "keep": 2, "keep_best": True, "max_failures": 3},
        "log_samples": 1,
        "max_skipped_steps": 3,
        "time_limit": None,
        "profile": False,
        "seed": 0,
        "device": "cpu",
        "dtype": "auto",
        "threads": None,
        "run_dir": None,
        "sweep_dir": None,
        "sinks": ["tensorboard"],
        "seeds": 1,
        "jobs": None,
        "resume": None,
        "resume_allow": [],
        "display": "quiet",
    }
    return fields | changes


def config_of(**changes: Any) -> RunConfig:
    """A small run; `changes` replace whole fields."""
    return RunConfig.model_validate(config_fields(**changes))


@dataclass
class Recorder(Reporter):
    """A reporter that remembers what it was told."""

    notes: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    ticks: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Keep the note."""
        self.notes.append(text)

    @contextmanager
    def phase(self, name: str, ticks: int) -> Iterator[Callable[[], None]]:
        """Keep the name and the number of ticks."""
        self.phases.append(name)
        self.ticks.append(ticks)
        yield lambda: None

    def step(
        self, step: int, metrics: Mapping[str, float], timings: Mapping[str, float], sample: tuple[str, str]
    ) -> None:
        """Keep the number."""
        self.steps.append(step)
