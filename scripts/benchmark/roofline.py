"""Measure the limits of this machine, in this process: matrix products in GFLOP/s, reading in GB/s."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS: Final = (512, 1920)
"""Tokens in a product: those of a microbatch, those of a whole step."""
SQUARE: Final = 2048
"""A shape that every library is tuned for, beside the model's own."""
READ: Final = 2**26
"""Values in the tensor that is read: 256 MB, beyond any cache."""
REPEATS: Final = 5
LEAST_S: Final = 0.02
"""Of one timing; short work is repeated within it."""


def roofline(matrices: Sequence[tuple[int, int]], device: torch.device) -> dict[str, Any]:
    """Measure products of [rows, in] with each (out, in) matrix, in float32 and bfloat16, and the speed of reading."""
    with torch.no_grad():
        return {"products": list(_products(matrices, device)), "read_gb_s": _reading(device)}


def _products(matrices: Sequence[tuple[int, int]], device: torch.device) -> Iterator[dict[str, Any]]:
    shapes = [(rows, *matrix) for matrix in matrices for rows in ROWS] + [(SQUARE, SQUARE, SQUARE)]
    for dtype in (torch.float32, torch.bfloat16):
        for rows, wide, deep in shapes:
            inputs = torch.randn(rows, deep, device=device).to(dtype)
            weights = torch.randn(wide, deep, device=device).to(dtype) * deep**-0.5
            for how, work in _ways(inputs, weights):
                yield {
                    "dtype": str(dtype).removeprefix("torch."),
                    "rows": rows,
                    "out": wide,
                    "in": deep,
                    "how": how,
                    "gflop_s": 2 * rows * wide * deep / _seconds(work, device) / 1e9,
                }


def _ways(inputs: Tensor, weights: Tensor) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    yield "plain", lambda: F.linear(inputs, weights)
    if inputs.device.type == "cpu":
        try:  # operators that torch keeps to itself: not in every build, not for every dtype on every processor
            packed = torch.ops.mkldnn._reorder_linear_weight(weights, len(inputs))
            torch.ops.mkldnn._linear_pointwise(inputs, packed, None, "none", [], "")
        except (AttributeError, RuntimeError):
            return
        yield "packed", lambda: torch.ops.mkldnn._linear_pointwise(inputs, packed, None, "none", [], "")


def _reading(device: torch.device) -> float:
    values = torch.ones(READ, device=device)
    return values.numel() * values.element_size() / _seconds(values.sum, device) / 1e9


def _seconds(work: Callable[[], Tensor], device: torch.device) -> float:
    """The shortest time of several calls."""

    def timed(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - start) / times

    timed(1)
    times = max(1, round(LEAST_S / timed(1)))
    return min(timed(times) for _ in range(REPEATS))
