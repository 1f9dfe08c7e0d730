"""A message arrives as it was sent."""

from __future__ import annotations

import pytest
import torch

from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.ranks.coding import pack, unpack
from rlhf_cli.ranks.messages import Order
from rlhf_cli.types import Prompt, PromptBatch, PromptRow

CPU = torch.device("cpu")


def test_tensors_of_every_kind_arrive_bit_for_bit() -> None:
    sent = {
        "float": torch.tensor([[1.5, -0.0], [float("nan"), 1e-40]]),
        "bfloat": torch.tensor([1.0078125], dtype=torch.bfloat16),
        "bool": torch.tensor([True, False]),
        "int": torch.arange(3),
        "empty": torch.zeros(2, 3, 0),
        "scalar": torch.tensor(2.5),
        "weight": torch.nn.Parameter(torch.tensor([0.1, 0.2])),
        "rest": ("text", 3, None),
    }
    found = unpack(pack(sent), CPU)
    assert found.pop("rest") == sent.pop("rest")
    for name, tensor in sent.items():
        assert isinstance(tensor, torch.Tensor)
        assert found[name].dtype == tensor.dtype, name
        assert found[name].shape == tensor.shape, name
        width = torch.uint8 if tensor.numel() else tensor.dtype
        assert torch.equal(found[name].flatten().view(width), tensor.flatten().view(width)), name


def test_a_view_travels_without_what_it_is_a_view_of() -> None:
    large = torch.zeros(1000, 1000)
    assert len(pack(large[:1, :1])) < 1000
    assert torch.equal(unpack(pack(torch.arange(6).view(2, 3).T), CPU), torch.arange(6).view(2, 3).T)


def test_a_prompt_travels_without_its_row() -> None:
    batch = PromptBatch((Prompt(PromptRow("secret", {"when": object()}, "file:1"), "text", (1, 2)),), 1, (2**62 + 1,))
    found = unpack(pack(batch), CPU)
    assert found == PromptBatch((Prompt(PromptRow("", {}, ""), "text", (1, 2)),), 1, (2**62 + 1,))


def test_an_algorithm_travels_by_its_settings() -> None:
    order = Order(3, None, "differentiate", [(Rloo(kind="rloo"), 0.1)])
    assert unpack(pack(order), CPU) == order


def test_nothing_else_travels() -> None:
    with pytest.raises(TypeError, match="no place for builtin_function_or_method"):
        pack(print)
    with pytest.raises(KeyError):
        unpack(bytearray((16).to_bytes(8, "little") + b'{"work": "exec"}'), CPU)
