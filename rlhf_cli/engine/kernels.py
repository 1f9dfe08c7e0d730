"""The few operations that a step spends its time in, with gradients by hand where the base model is frozen.

Autograd would keep what every small operation read. These keep one tensor each, and give no gradient to the weights,
which are frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from rlhf_cli.engine.processor import vendor
from rlhf_cli.functional.logprobs import differentiable

Product = Callable[[Tensor], Tensor]
"""A linear layer: [n, in] -> [n, out]."""

_PACKED_FOR: Final = 32
"""Rows that a packed layout is tuned for: those of a decoding step. It is no slower for more."""


def product(weight: Tensor, bias: Tensor | None = None, *, backward: bool = True) -> Product:
    """x -> x weight^T + bias, for a frozen weight [out, in]; `backward`: whether x may need a gradient."""
    if not packs(weight):
        return lambda x: torch.nn.functional.linear(x, weight, bias)
    packed = _pack(weight)
    transposed = _pack(weight.t().contiguous()) if backward else None

    def apply(x: Tensor) -> Tensor:
        y: Tensor = differentiable(_Packed, x, packed, transposed)
        return y if bias is None else y + bias

    return apply


def packs(weight: Tensor) -> bool:
    """Whether oneDNN's own layout of this weight is faster here than the plain one.

    Measured: bfloat16 gains on every CPU; float32 gains where MKL does not know the CPU (69 -> 28 ms for a decoding
    step on AMD) and nothing on Intel. A rule, not a stopwatch: a stopwatch would round differently from run to run.
    """
    if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.bfloat16):
        return False
    return (weight.dtype == torch.bfloat16 or vendor() == "AuthenticAMD") and _packing_works(weight.dtype)


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _PACKED_FOR)
    return packed


def _times_packed(x: Tensor, packed: Tensor) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), packed, None, "none", [], "")
    return y


_works: dict[torch.dtype, bool] = {}


@torch.no_grad()
def _packing_works(dtype: torch.dtype) -> bool:
    """Whether this torch has the two private operators, and they multiply; asked once."""
    if dtype not in _works:
        x, weight = torch.arange(12.0).view(3, 4).to(dtype), torch.eye(8, 4, dtype=dtype)
        try:
            _works[dtype] = torch.equal(_times_packed(x, _pack(weight)), x @ weight.t())
        except (AttributeError, RuntimeError, TypeError):  # not built in, renamed, or of another signature
            _works[dtype] = False
    return _works[dtype]


def _wants_gradient(x: Tensor) -> bool:
    """In a decoding step, what autograd notes beside an operation takes longer than a small operation."""
    return x.requires_grad and torch.is_grad_enabled()


class _Packed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Tensor, transposed: Tensor | None) -> Tensor:
        ctx.transposed = transposed
        return _times_packed(x, packed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _times_packed(grads[0], ctx.transposed), None, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, worked out in float32, in the weight's dtype.

    Zhang and Sennrich 2019, arXiv:1910.07467, equation 4.
    """
    if not _wants_gradient(x):
        return torch.nn.functional.rms_norm(x.float(), x.shape[-1:], eps=eps).to(weight.dtype).mul_(weight)
    return differentiable(_RmsNorm, x, weight, eps)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        scale = wide.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (wide * scale).to(weight.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        gradient, normed = grads[0].float() * weight, x.float() * scale
        along = (gradient * normed).mean(-1, keepdim=True)
        return gradient.addcmul_(normed, along, value=-1).mul_(scale).to(x.dtype), None, None


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up, of [n, 2 m] with the gate first: [n, m] (Shazeer 2020, arXiv:2002.05202, equation 6)."""
    return differentiable(_SwiGlu, gate_up) if _wants_gradient(gate_up) else _gated(gate_up)


def _gated(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, -1)
    return torch.nn.functional.silu(gate).mul_(up)


class _SwiGlu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        return _gated(gate_up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, -1)
        result = torch.empty_like(gate_up)
        of_gate, of_up = result.chunk(2, -1)
        torch.mul(grads[0], torch.nn.functional.silu(gate), out=of_up)
        torch.mul(grads[0], up, out=of_gate)
        torch.ops.aten.silu_backward.grad_input(of_gate, gate, grad_input=of_gate)
        return (result,)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x_i, x_{i + d/2}) of [n, heads, d] by its position's angle; cos, sin [n, 1, d/2].

    Su et al. 2021, arXiv:2104.09864, in the layout of Llama's weights.
    """
    if not _wants_gradient(x):
        return _rotated(x, cos, sin)
    return differentiable(_Rotate, x, cos, sin)


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _rotated(grads[0], cos, -sin), None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    (first, second), (to_first, to_second) = x.chunk(2, -1), result.chunk(2, -1)
    torch.mul(first, cos, out=to_first).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=to_second).addcmul_(first, sin)
    return result


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v: query [b, T, h, d], key and value [b, g, S, d] -> [b, T, h d].

    h / g query heads share a key head; they are laid out as further queries of it, so that keys are never copied. The
    mask, of `folded`, is added: [b or 1, 1, T h/g, S].
    """
    b, t, heads, size = query.shape
    groups = key.shape[1]
    folded_query = query.view(b, t, groups, heads // groups, size).transpose(1, 2).reshape(b, groups, -1, size)
    out = torch.nn.functional.scaled_dot_product_attention(folded_query, key, value, attn_mask=mask)
    return out.view(b, groups, t, heads // groups, size).transpose(1, 2).reshape(b, t, heads * size)


def rows_of(x: Tensor, rows: Tensor) -> Tensor:
    """x[rows], the same row several times if asked for, with a backward pass that always adds up in the same order.

    Which of torch's two ways does that depends on the device: see `torch.use_deterministic_algorithms`.
    """
    return x.index_select(0, rows) if x.device.type == "cpu" else x[rows]


def folded(seen: Tensor, shared_by: int, dtype: torch.dtype) -> Tensor:
    """The mask of `attention` from what each query sees: bool [b, T, S] -> [b, 1, T shared_by, S], 0 or -inf."""
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)
    return mask.repeat_interleave(shared_by, 1).unsqueeze(1)
