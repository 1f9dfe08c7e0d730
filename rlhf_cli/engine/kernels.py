"""The few operations that take most of a step's time, with gradients by hand since the base model is frozen.

Autograd would keep the inputs of every small operation. These keep one tensor each and give the frozen weights
no gradient.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

from rlhf_cli.functional.logprobs import apply_autograd
from rlhf_cli.models.libraries import AMD, cpu_vendor

Product = Callable[[Tensor], Tensor]
"""A linear layer: [n, in] -> [n, out]."""
Attend = Callable[..., Tensor]
"""(query [b, g, M, d], key and value [b, g, S, d], mask) -> [b, g, M, d]."""

_PACKED_FOR: Final = 32
"""Rows that a packed layout is tuned for: those of a decoding step. It is not slower for more."""


class Frozen:
    """A linear layer whose weight [out, in] stays as it is: x [n, in] -> x weight^T + bias."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, backward: bool = True, invariant: bool = False):
        """`backward`: whether x may need a gradient. `invariant`: a row's bits depend on no other row."""
        self.outputs, self.inputs = weight.shape
        self._bias, self.invariant = bias, invariant
        self._is_packed = invariant or is_faster_packed(weight)
        self._weight = _pack(weight) if self._is_packed else weight
        self._transposed = _pack(weight.t().contiguous()) if self._is_packed and backward else None

    def __call__(self, x: Tensor) -> Tensor:
        if self.invariant and len(x) == 1:
            return self(beside_zeros(x))[:1]
        if not self._is_packed:
            return torch.nn.functional.linear(x, self._weight, self._bias)
        if _wants_gradient(x):
            y = apply_autograd(_Packed, x, self._weight, self._transposed)
        else:
            y = _times_packed(x, self._weight)
        return y if self._bias is None else y + self._bias

    def backward(self, gradient: Tensor) -> Tensor:
        """The gradient of x [n, in] from that of the output [n, out]."""
        if self.invariant and len(gradient) == 1:
            return self.backward(beside_zeros(gradient))[:1]
        return gradient @ self._weight if self._transposed is None else _times_packed(gradient, self._transposed)


def beside_zeros(x: Tensor) -> Tensor:
    """A single row [1, n] and one of zeros, [2, n]: a product of one row adds in another order than one of more."""
    return torch.nn.functional.pad(x, (0, 0, 0, 1))


class Known(NamedTuple):
    """Outputs [N, out] of a linear layer, of which some rows are wanted."""

    outputs: Tensor
    rows: Tensor
    """int64 [n]"""

    def take(self) -> Tensor:
        """The rows that are wanted, [n, out]."""
        return take_rows(self.outputs, self.rows)


def is_faster_packed(weight: Tensor) -> bool:
    """Whether oneDNN's own layout of this weight is faster on this CPU than the plain one.

    Measured: bfloat16 gains on every CPU; float32 gains where MKL does not know the CPU (69 -> 28 ms for a decoding
    step on AMD) and nothing on Intel. A rule decides, not a measurement: runs that chose differently would round
    differently.
    """
    return (weight.dtype == torch.bfloat16 or cpu_vendor() == AMD) and may_be_packed(weight)


def may_be_packed(weight: Tensor) -> bool:
    """Whether this machine multiplies such a weight in oneDNN's layout; not every CPU does in bfloat16."""
    return (
        weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.bfloat16) and _packing_works(weight.dtype)
    )


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _PACKED_FOR)
    return packed


def _times_packed(x: Tensor, packed: Tensor) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), packed, None, "none", [], "")
    return y


@cache
@torch.no_grad()
def _packing_works(dtype: torch.dtype) -> bool:
    """Whether this torch has the two private operators and they multiply correctly; tested once."""
    x, weight = torch.arange(12.0).view(3, 4).to(dtype), torch.eye(8, 4, dtype=dtype)
    try:
        return torch.equal(_times_packed(x, _pack(weight)), x @ weight.t())
    except (AttributeError, RuntimeError, TypeError):  # not built in, renamed, or with another signature
        return False


def _wants_gradient(x: Tensor) -> bool:
    """Whether to go through autograd; in a decoding step its bookkeeping costs more than a small operation."""
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
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, computed in float32, returned in the weight's dtype.

    Zhang and Sennrich 2019, arXiv:1910.07467, equation 4.
    """
    if not _wants_gradient(x):
        wide = x.float()
        return (wide * wide.square().mean(-1, keepdim=True).add_(eps).rsqrt_()).to(weight.dtype).mul_(weight)
    return apply_autograd(_RmsNorm, x, weight, eps)


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
    return apply_autograd(_SwiGlu, gate_up) if _wants_gradient(gate_up) else _gated(gate_up)


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
    return apply_autograd(_Rotate, x, cos, sin)


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


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, attend: Attend = sdpa) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v: query [b, T, h, d], key and value [b, g, S, d] -> [b, T, h d].

    h / g query heads share a key head; they become further queries of that head, so that keys are never copied. The
    mask, made by `fold_mask`, is added: [b or 1, 1, T h/g, S]. `attend` is the function that calculates it.
    """
    b, t, heads, size = query.shape
    groups = key.shape[1]
    folded_query = query.view(b, t, groups, heads // groups, size).transpose(1, 2).reshape(b, groups, -1, size)
    out = attend(folded_query, key, value, mask)
    return out.view(b, groups, t, heads // groups, size).transpose(1, 2).reshape(b, t, heads * size)


def take_rows(x: Tensor, rows: Tensor) -> Tensor:
    """x[rows], where rows may repeat, with a backward pass that always adds in the same order.

    The deterministic one of torch's two ways depends on the device: see `torch.use_deterministic_algorithms`.
    """
    return x.index_select(0, rows) if x.device.type == "cpu" else x[rows]


def fold_mask(visible: Tensor, shared_by: int, dtype: torch.dtype) -> Tensor:
    """The mask of `attention` from each query's visible keys: bool [b, T, S] -> [b, 1, T shared_by, S], 0 or -inf."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, -torch.inf)
    return mask.repeat_interleave(shared_by, 1).unsqueeze(1)
