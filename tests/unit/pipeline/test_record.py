"""run.json: the fingerprint of the weights."""

from __future__ import annotations

import torch

from rlhf_cli.pipeline.record import _weights_fingerprint
from tests.unit.support import build, move_adapter, tiny


def test_the_fingerprint_is_that_of_the_frozen_weights() -> None:
    one, moved, other = build(tiny()), build(tiny(), adapter_seed=2), build(tiny(seed=1))
    move_adapter(moved)
    assert _weights_fingerprint(one) == _weights_fingerprint(moved) != _weights_fingerprint(other)
    with torch.no_grad():
        one.causal.get_input_embeddings().weight[0, 0] += 1
    assert _weights_fingerprint(one) != _weights_fingerprint(moved)
