"""Estimate what training could have reached, from the completions of the reference that the trials have anyway."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from rlhf_cli.evaluation.evaluation import TEMPERATURE
from rlhf_cli.evaluation.oracle import CurvePoint, Oracle, oracle
from rlhf_cli.schema import RunConfig
from rlhf_cli.sweep.outcome import Outcome


def reference_of(config: RunConfig) -> dict[str, Any]:
    """The settings that decide which model the reference is; how it is adapted and run does not."""
    model = config.model if config.reference.kind == "initial" else config.reference
    return model.model_dump(exclude={"lora", "engine", "gradient_checkpointing"})


def task_of(config: RunConfig) -> dict[str, Any]:
    """The settings that decide which prompts are evaluated and how they are scored."""
    return {"reward": config.reward, "data": config.data, "evaluate.prompts": config.evaluate.prompts}


def reach(outcomes: Sequence[Outcome], beta: float) -> tuple[Oracle, None] | tuple[None, str]:
    """The optimum's curve and best-of-n; or None and why.

    Trials of one seed have the same completions at step 0, which count once: streams depend on seed, prompt and sample.
    Trials of other seeds add completions of the same prompts.
    """
    for what, values in (
        ("reference", [reference_of(outcome.config) for outcome in outcomes]),
        ("task (reward, data, evaluate.prompts)", [task_of(outcome.config) for outcome in outcomes]),
        ("max_new_tokens", [outcome.config.max_new_tokens for outcome in outcomes]),
    ):
        if any(value != values[0] for value in values):
            return None, f"the trials do not share one {what}"
    samples = _reference_rewards(outcomes)
    if not samples:
        return None, "no trial evaluated the reference"
    least = min(map(len, samples))
    if least < 2:
        return None, "one completion of the reference a prompt: evaluate.samples=2 is the least"
    return oracle([values[:least] for values in samples], (beta,) if beta else (), beta, TEMPERATURE), None


def is_above(curve: Sequence[CurvePoint], kl: float, reward: float) -> bool:
    """Whether a point has more reward than the optimum at its KL (nats), where enough samples cover that KL.

    Straight lines join the curve; outside its covered part nothing is above it.
    """
    for a, b in pairwise(curve):
        if a.covered and b.covered and a.kl <= kl <= b.kl:
            share = (kl - a.kl) / (b.kl - a.kl) if b.kl > a.kl else 1.0
            return reward > a.reward + share * (b.reward - a.reward)
    return False


def _reference_rewards(outcomes: Sequence[Outcome]) -> list[list[float]]:
    """Rewards of the reference's completions, one list a prompt; for each seed, from the trial with the most."""
    by_seed: dict[int, Outcome] = {}
    for outcome in outcomes:
        known = by_seed.get(outcome.config.seed)
        if outcome.reference and (known is None or outcome.config.evaluate.samples > known.config.evaluate.samples):
            by_seed[outcome.config.seed] = outcome
    if not by_seed:
        return []
    common = set.intersection(*({*outcome.reference} for outcome in by_seed.values()))
    return [
        [reward for outcome in by_seed.values() for reward in outcome.reference[prompt]] for prompt in sorted(common)
    ]
