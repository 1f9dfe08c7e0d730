"""The results of scripts/bench as Markdown tables: a pure function of its JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import linear_regression, median
from typing import Any, Final

from flops import Shape, needed, weight_bytes

PHASES: Final = ("rollout", "trainer", "reward", "reference", "update", "other")
WORKING: Final = ("rollout", "reference", "update", "step")
"""Phases whose arithmetic is known."""
BYTES: Final = {"float32": 4, "bfloat16": 2}
HEAD: Final = ("s a step", "range", *PHASES, "tokens/s", "peak GB")
FEWEST: Final = 3
"""Fewest points of a fit: a line goes through any two."""

Found = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fit:
    """seconds = start + slope x, by least squares."""

    start: float
    slope: float
    residual: float
    """The largest |measured - fitted| / measured."""


def fit(x: Sequence[float], seconds: Sequence[float]) -> Fit:
    """The line through the points; raises StatisticsError where they have fewer than two places."""
    slope, start = linear_regression(x, seconds)
    off = [abs(s - start - slope * place) / s for place, s in zip(x, seconds, strict=True)]
    return Fit(start, slope, max(off))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: text in the first column, numbers in the others."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def seconds(point: Found, phase: str) -> float:
    """The median over the measured steps; a phase that a step does not have counts as 0."""
    return median(sample["seconds"].get(phase, 0.0) for sample in point["samples"])


def memory(point: Found) -> int:
    """Peak memory in bytes: of the GPU where one was used, else of the machine."""
    last = point["samples"][-1]["memory"]
    return int(last.get("cuda", last["rss"]))


def tokens_a_second(point: Found) -> float:
    """Completion tokens that are trained on, per second."""
    return median(sample["tokens"] / sample["seconds"]["step"] for sample in point["samples"])


def name(point: Found) -> str:
    """The name of a point: dtype, engine, prompts x completions x tokens."""
    return f"{point['dtype']}, {point['engine']}, {point['prompts']} x {point['group']} x {point['new_tokens']}"


def least(point: Found, rates: Found) -> dict[str, tuple[float, float, float | None]]:
    """By phase: GFLOP, the share of the measured peak that was reached, and for the rollout the seconds it takes to
    read the weights once a token. Medians over steps, whose prompts differ in length."""
    shape, peak = Shape(**point["about"]["shape"]), best(rates, point["dtype"])["gflop_s"]
    work = [
        needed(shape, sample["prompts"], sample["alike"], point["group"], point["new_tokens"])
        for sample in point["samples"]
    ]
    read = weight_bytes(shape, point["new_tokens"], BYTES[point["dtype"]]) / rates["read_gb_s"] / 1e9
    return {
        phase: (
            median(one[phase] for one in work) / 1e9,
            median(
                one[phase] / 1e9 / peak / sample["seconds"][phase]
                for one, sample in zip(work, point["samples"], strict=True)
            ),
            read if phase == "rollout" else None,
        )
        for phase in WORKING
    }


def best(rates: Found, dtype: str) -> Found:
    """The speed of the fastest product."""
    product: Found = max((p for p in rates["products"] if p["dtype"] == dtype), key=lambda p: p["gflop_s"])
    return product


def lines(points: Sequence[Found]) -> Iterator[tuple[str, Fit]]:
    """The fits of the sweeps that vary one number alone, by the name of that number."""
    for varied, fixed in (("new_tokens", "group"), ("group", "new_tokens")):
        same = ("dtype", "engine", "prompts", fixed)
        ordered = sorted(points, key=lambda point: [str(point[key]) for key in same])
        for _, sweep in groupby(ordered, key=lambda point: [point[key] for key in same]):
            of = {point[varied]: point for point in sweep}
            if len(of) >= FEWEST:
                one = next(iter(of.values()))
                size = one["prompts"] * (one["group"] if varied == "new_tokens" else 1)
                what = "completion tokens" if varied == "new_tokens" else "completions"
                found = fit([size * value for value in of], [seconds(point, "step") for point in of.values()])
                yield f"{what} ({one['dtype']}, {one['engine']}, {size * min(of)} to {size * max(of)})", found


def report(found: Found) -> str:
    """All tables that have rows."""
    parts, rates, points = [_machine(found["machine"])], found["roofline"], found["points"]
    if rates:
        parts += ["## The machine's best", _rates(rates)]
    if points:
        parts += ["## Steps", _steps(points)]
        if rates:
            parts += ["## Against the least there is to compute", _least(points, rates)]
        if fits := list(lines(points)):
            parts += ["## Cost against size", _fits(fits)]
    if found.get("busy"):
        parts += ["## Beside one busy process", _busy(found["busy"])]
    if found["pairs"]:
        parts.append("## Against the peer")
        parts += [_pair(pair) for pair in found["pairs"]]
        if rates:
            parts.append(_least([pair["ours"] for pair in found["pairs"]], rates))
    return "\n\n".join(parts)


def _machine(machine: Found) -> str:
    return ", ".join(str(value) for value in machine.values() if value)


def _rates(rates: Found) -> str:
    rows = []
    for dtype in BYTES:
        top = best(rates, dtype)
        by = f"[{top['rows']}, {top['in']}] x [{top['in']}, {top['out']}], {top['how']}"
        rows.append([f"{dtype} products", f"{top['gflop_s']:,.0f} GFLOP/s", by])
    rows.append(["reading", f"{rates['read_gb_s']:.1f} GB/s", "a sum of 256 MB"])
    return table(["", "most", "by"], rows)


def _steps(points: Sequence[Found]) -> str:
    rows = [[name(point), *_cells(point), f"{point['save_s']:.2f}"] for point in points]
    return table(["dtype, engine, prompts x completions x tokens", *HEAD, "checkpoint, s"], rows)


def _cells(point: Found) -> list[str]:
    every = [sample["seconds"]["step"] for sample in point["samples"]]
    return [
        f"{median(every):.2f}",
        f"{min(every):.2f} – {max(every):.2f}",
        *(f"{seconds(point, phase):.2f}" for phase in PHASES),
        f"{tokens_a_second(point):.0f}",
        f"{memory(point) / 1e9:.2f}",
    ]


def _least(points: Sequence[Found], rates: Found) -> str:
    rows = []
    for point in points:
        peak = best(rates, point["dtype"])["gflop_s"]
        for phase, (gflop, reached, read) in least(point, rates).items():
            shown = f"{gflop:,.0f}" if gflop >= 1 else f"{gflop:.3f}"
            times = [f"{gflop / peak:.2f}", "" if read is None else f"{read:.2f}", f"{seconds(point, phase):.2f}"]
            rows.append([f"{name(point)}: {phase}", shown, *times, f"{reached:.0%}"])
    return table(["", "GFLOP", "least, s", "reading weights, s", "measured, s", "of the peak"], rows)


def _fits(fits: Sequence[tuple[str, Fit]]) -> str:
    rows = [[what, f"{one.start:.2f}", f"{one.slope * 1000:.2f}", f"{one.residual:.1%}"] for what, one in fits]
    return table(["seconds a step against", "at none, s", "ms for each more", "largest residual"], rows)


def _busy(ways: Sequence[Found]) -> str:
    rows = []
    for way in ways:
        quiet, busy = median(way["quiet"]), median(way["busy"])
        shape = f"{way['prompts']} x {way['group']} x {way['new_tokens']}, {way['way']}"
        rows.append([shape, f"{quiet:.2f}", f"{busy:.2f}", f"{busy / quiet:.2f}"])
    return table(["prompts x completions x tokens", "quiet, s a step", "beside a busy process", "times"], rows)


def _pair(pair: Found) -> str:
    ours, peer = pair["ours"], pair["peer"]
    version = f"TRL {peer['about']['versions']['trl']}{', tuned allocator' if peer['tuned'] else ''}"
    shown = table(["", *HEAD], [["rlhf-cli", *_cells(ours)], [version, *_cells(peer)]])
    middle, low, high = ratio(ours, peer)
    return (
        f"{name(ours)}; the peer reads {peer['batch']} completions at once\n\n{shown}\n\n"
        f"The peer's step takes {middle:.2f} times as long ({low:.2f} to {high:.2f}; pairs of steps: "
        f"{len(ours['samples'])}); our peak is {memory(ours) / memory(peer):.2f} of its."
    )


def ratio(ours: Found, peer: Found) -> tuple[float, float, float]:
    """The peer's seconds over ours: of the medians; and the smallest and largest ratio of a pair of steps."""
    pairs = [
        theirs["seconds"]["step"] / mine["seconds"]["step"]
        for mine, theirs in zip(ours["samples"], peer["samples"], strict=True)
    ]
    return seconds(peer, "step") / seconds(ours, "step"), min(pairs), max(pairs)
