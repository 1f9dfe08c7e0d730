"""What training could have reached, from the completions of the reference that the trials of a sweep have anyway."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from rlhf_cli.evaluation.oracle import CurvePoint, Oracle, oracle
from rlhf_cli.schema import RunConfig
from rlhf_cli.sweep.outcome import Outcome

TEMPERATURE: Final = 1.0
"""Of every evaluation."""


def reference_of(config: RunConfig) -> dict[str, Any]:
    """What decides which model the reference is; how it is adapted and run does not."""
    return config.model.model_dump(exclude={"lora", "engine", "gradient_checkpointing"})


def task_of(config: RunConfig) -> dict[str, Any]:
    """What decides which prompts are evaluated and how they are judged."""
    return {"reward": config.reward, "data": config.data, "evaluate.prompts": config.evaluate.prompts}


def reach(outcomes: Sequence[Outcome], beta: float) -> tuple[Oracle, None] | tuple[None, str]:
    """The optimum's curve and best-of-n; or None and why.

    Trials of one seed have the same completions at step 0: streams depend on seed, prompt and sample. They count once.
    Those of other seeds are further ones of the same prompts.
    """
    for what, values in (
        ("reference (model)", [reference_of(one.config) for one in outcomes]),
        ("task (reward, data, evaluate.prompts)", [task_of(one.config) for one in outcomes]),
        ("max_new_tokens", [one.config.max_new_tokens for one in outcomes]),
    ):
        if any(value != values[0] for value in values):
            return None, f"the trials do not share one {what}"
    samples = _samples(outcomes)
    if not samples:
        return None, "no trial evaluated the reference"
    least = min(map(len, samples))
    if least < 2:
        return None, "one completion of the reference a prompt: evaluate.samples=2 is the least"
    return oracle([values[:least] for values in samples], (beta,) if beta else (), beta, TEMPERATURE), None


def above(curve: Sequence[CurvePoint], kl: float, reward: float) -> bool:
    """Whether a point has more reward than the optimum at its KL (nats), where there were samples enough to see that.

    The curve is joined by straight lines; outside of its covered part nothing is above it.
    """
    for a, b in pairwise(curve):
        if a.covered and b.covered and a.kl <= kl <= b.kl:
            share = (kl - a.kl) / (b.kl - a.kl) if b.kl > a.kl else 1.0
            return reward > a.reward + share * (b.reward - a.reward)
    return False


def _samples(outcomes: Sequence[Outcome]) -> list[list[float]]:
    """Rewards of the reference's completions, a list a prompt, every completion once."""
    by_seed: dict[int, Outcome] = {}
    for one in outcomes:
        before = by_seed.get(one.config.seed)
        if one.reference and (before is None or one.config.evaluate.samples > before.config.evaluate.samples):
            by_seed[one.config.seed] = one
    if not by_seed:
        return []
    common = set.intersection(*({*one.reference} for one in by_seed.values()))
    return [[value for one in by_seed.values() for value in one.reference[prompt]] for prompt in sorted(common)]
