"""Random streams as pure functions of their purpose: no generator is saved or replayed.

`seed_for(run_seed, "rollout", step, prompt, sample)` always returns the same number: an evaluation, an extra log line
or a resumed run does not change what a later step draws.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch


def seed_for(run_seed: int, stream: str, *counters: int) -> int:
    """A seed for one purpose: 63 bits of a SHA-256 over (run_seed, stream, counters)."""
    digest = hashlib.sha256(json.dumps([run_seed, stream, *counters]).encode()).digest()
    return int.from_bytes(digest[:8], "little") & (2**63 - 1)


def permutation(size: int, seed: int) -> list[int]:
    """A permutation of range(size) that depends only on `seed`."""
    import torch

    return torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tolist()


def uniforms(seeds: Iterable[int], length: int) -> torch.Tensor:
    """Uniform draws in [0, 1): float64 [B, length], one row per seed; a row does not depend on the other rows.

    torch's CPU generator uses the low 32 bits of a seed. Among 10^5 streams two may coincide; then two completions are
    correlated, and nothing else.
    """
    import torch

    rows = [torch.rand(length, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows)
