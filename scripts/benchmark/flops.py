"""The least number of operations of a step, computed from the model's shape and the lengths of its texts.

A product of a [m, k] by a [k, n] matrix counts as 2 m k n floating point operations. Everything else (normalisation,
softmax, sampling, the optimizer) is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model that decide the work of a token."""

    blocks: int
    """N_block: weights of the linear layers of all blocks."""
    head: int
    """N_head = V H: weights of the output layer."""
    lora: int
    """N_lora: weights of the adapter."""
    layers: int
    width: int
    """h: of all attention heads together."""


def read_tokens(prompts: Sequence[int], alike: int, group: int, new: int) -> int:
    """Tokens that the blocks have to read.

    The common beginning of all prompts once, the rest of each prompt once for its group, and each completion without
    its last token, which predicts nothing.

    `prompts`: the prompts' lengths; the first `alike` tokens are the same in all of them. Each has `group` completions
    of `new` tokens.
    """
    return sum(prompts) - alike * (len(prompts) - 1) + len(prompts) * group * (new - 1)


def causal_pairs(prompts: Sequence[int], alike: int, group: int, new: int) -> int:
    """Pairs of a token that is read and a token that it attends to: itself, or one before it.

    In a text of p tokens p (p + 1) / 2; token t = 1 .. new - 1 of a completion has p + t.
    """
    in_prompts = sum(map(_triangle, prompts)) - _triangle(alike) * (len(prompts) - 1)
    return in_prompts + sum(group * ((new - 1) * p + _triangle(new - 1)) for p in prompts)


def _triangle(n: int) -> int:
    return n * (n + 1) // 2


def needed(shape: Shape, prompts: Sequence[int], alike: int, group: int, new: int) -> dict[str, int]:
    """FLOPs of each phase of a step, R = read_tokens and C = completion tokens.

    forward    2 N_block R + 4 h layers pairs       q k' and p v are 2 h a pair each
    head       2 N_head C                           one product with the output layer
    rollout    forward + head
    reference  forward + 2 heads                    its own, and the policy's again for the exact KL
    update     2 forwards + 4 h layers pairs + 2 heads + 6 N_lora R

    The update's second forward stands for the gradient with respect to activations: the base is frozen, so its weights
    need none; of attention it is twice the forward, with respect to q, k, v and the probabilities. The adapter is read,
    passed through, and has a gradient of its own.
    """
    read, written = read_tokens(prompts, alike, group, new), len(prompts) * group * new
    attention = 4 * shape.width * shape.layers * causal_pairs(prompts, alike, group, new)
    forward, head = 2 * shape.blocks * read + attention, 2 * shape.head * written
    phases = {
        "rollout": forward + head,
        "reference": forward + 2 * head,
        "update": 2 * forward + attention + 2 * head + 6 * shape.lora * read,
    }
    return phases | {"step": sum(phases.values())}


def weight_bytes(shape: Shape, new: int, bytes_a_weight: int) -> int:
    """The least number of bytes that a rollout reads: every weight once for each token of the longest completion."""
    return new * (shape.blocks + shape.head) * bytes_a_weight
