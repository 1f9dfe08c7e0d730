"""The metrics and evaluations of a healthy run, with the figures of the embedded default, and changes to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.evaluation.optimum import unknown

STEPS = 40
CONFIG = {
    "steps": STEPS,
    "max_new_tokens": 32,
    "samples_per_prompt": 4,
    "beta": {"kind": "constant", "value": 0.05},
    "optimizer": {"lr": 6e-4},
}
Change = Callable[[int], dict[str, Any]]


def healthy(step: int) -> dict[str, Any]:
    """The line of metrics of a step: reward 0.18 -> 0.5, KL 0 -> 4.2 nats."""
    share, wave = (step - 1) / (STEPS - 1), 0.03 if step % 2 else -0.03
    kl, reward = 4.2 * share, 0.18 + 0.32 * share + wave
    return {
        "step": step,
        "skipped": 0.0,
        "objective": reward - 0.05 * kl,
        "objective_se": 0.06,
        "reward/mean": reward,
        "reward/mean_se": 0.06,
        "reward/same_in_group": 0.0,
        "kl/seq": kl,
        "kl/tok": kl / 29,
        "policy/entropy": 3.4 - 0.5 * share,
        "completion/length": 26 + 4 * share,
        "completion/truncated": 0.45 + 0.15 * share,
        "sampler/gap": 1e-5,
        "beta": 0.05,
        "temperature": 1.0,
    }


def rows(change: Change = lambda step: {}, steps: int = STEPS) -> list[dict[str, Any]]:
    """The lines of a run, with a change to each."""
    return [{"step": 0, "eval/objective": 0.18}, *(healthy(step) | change(step) for step in range(1, steps + 1))]


def evaluation(
    step: int,
    reward: float,
    length: int = 26,
    *,
    pays: float = 0.0,
    text: str = "The night porter, a gruff but lovable figure, collects {} matchboxes.",
) -> Evaluation:
    """Eight prompts with three completions; a token more than another of the prompt gives `pays` more reward."""
    spread = (-2, 0, 2)
    rewards = [[reward + 0.01 * prompt + pays * more for more in spread] for prompt in range(8)]
    if not pays:  # nothing to do with the length
        rewards = [[r + d for r, d in zip(group, (0.1, -0.2, 0.1), strict=True)] for group in rewards]

    def same(value: Any) -> list[list[Any]]:
        return [[value] * len(spread) for _ in range(8)]

    lengths = [[length + more for more in spread] for _ in range(8)]
    texts = [[text.format(9 * prompt + more) for more in spread] for prompt in range(8)]
    numbers = same(1.0), lengths, same(False), texts, same(-2.0), same(-3.0)
    return Evaluation(step, 0.05, [*range(8)], 0, rewards, *numbers, None, unknown("a reason"))


def evaluations(*after: Evaluation) -> Sequence[Evaluation]:
    """The evaluation of the untouched policy, and those after it."""
    return [evaluation(0, 0.18), *after]
