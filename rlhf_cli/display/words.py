"""Make texts harmless for a terminal, and put figures in a line."""

import math
from collections.abc import Mapping

from rlhf_cli.errors import visible
from rlhf_cli.evaluation.evaluation import nats


def flat(text: str) -> str:
    """Put the text in one line; control characters become dots."""
    return visible(" ".join(text.split()))


def step_figures(metrics: Mapping[str, float]) -> str | None:
    """Put the figures of a step in a line; None where nothing was learned in it."""
    if "objective" in metrics:
        return figures(metrics, "")
    return losses(metrics, "") if "loss" in metrics else None


def held_out_figures(metrics: Mapping[str, float]) -> str | None:
    """Put the figures of the evaluation that came with a step in a line; None where there was none."""
    if "eval/objective" in metrics:
        return figures(metrics, "eval/")
    return losses(metrics, "heldout/") if "heldout/loss" in metrics else None


def figures(metrics: Mapping[str, float], prefix: str) -> str:
    """Put J, reward, KL and length of a step in a line; with the prefix `eval/` those of an evaluation."""
    columns = (
        ("objective", "J", "+z.3f"),
        ("reward/mean", "reward", "+z.3f"),
        ("kl/seq", "KL", "z.2f"),
        ("completion/length", "length", ".1f"),
    )
    parts = [f"{label} {metric(metrics, prefix + name):{form}}" for name, label, form in columns]
    share = metrics.get(f"{prefix}optimum")
    return "  ".join(parts if share is None else [*parts, f"optimum {share:z.0f} %"])


def losses(metrics: Mapping[str, float], prefix: str) -> str:
    """Put the loss of supervised training and the figures beside it in a line; with `heldout/` those held out."""
    columns = (
        ("loss", "loss", ".4f"),
        ("perplexity", "perplexity", ".2f"),
        ("accuracy", "accuracy", ".1%"),
        ("margin", "margin", "+.3f"),
    )
    known = [(prefix + name, label, form) for name, label, form in columns if prefix + name in metrics]
    return "  ".join(f"{label} {metrics[name]:{form}}" for name, label, form in known)


def metric(metrics: Mapping[str, float], name: str) -> float:
    """Return the metric, or NaN; a KL that this step did not measure exactly is its sampled estimate.

    A file may hold null, which stands for a number that JSON lacks.
    """
    value = metrics.get(name, metrics.get("kl/seq_k1") if name == "kl/seq" else None)
    return math.nan if value is None else nats(value) if "kl/" in name else value


def waiting(count: int, command: str) -> str:
    """Say how many pairs wait for a vote, and what asks for it."""
    return f"{count} pair{'s wait' if count > 1 else ' waits'} for a vote: {command}"
