"""The time of a step on N processes, from a device's own speed, the network and the batch:
scripts/scaling [--measure] [--steps N] [--json FILE] [K=V]

The model, in words:

- A position is decoded for all rows of a process at once. It takes `token_s`, however few the rows are, since every
  weight is read for it, and `row_s` a row. Fewer rows a process make a position cheaper, and never cheaper than
  `token_s`: that is where more processes stop paying.
- Reading and differentiating a row takes `read_s`, alone or with others.
- Rank 0 does the rest alone (`own_s`: the reward, the optimizer, saving).
- All messages go through rank 0, over its one connection. A step sends every other process the trained weights, once,
  and brings back a gradient of that size from each shard. A row's states are sent with it: back after decoding, and
  out again for the reading and for the update. Nothing is sent while anything is calculated.
- Rows are dealt evenly, all completions have the same length, and all processes are alike. Where processes share the
  cores of one machine, they calculate at a speed in proportion.

Without --measure it prints this for a device whose speed is taken from its data sheet. With --measure it times the
default on this machine, in one process with 1, 2 and 4 shards, fits the four times, predicts 2 and 4 processes, and
runs them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
SIZES: Final = (1, 2, 4, 8, 16, 32, 64)
PAYS: Final = 1.25
"""Twice as many processes pay if a step is at least so many times as fast."""


@dataclass(frozen=True)
class Device:
    """Times of the calculations of one process."""

    token_s: float
    """Seconds for a position of any number of rows."""
    row_s: float
    """Seconds more for each row of it."""
    read_s: float
    """Seconds to read and differentiate a row, of one update."""
    own_s: float
    """Seconds of rank 0 alone, in each step."""


@dataclass(frozen=True)
class Link:
    """The connection of rank 0."""

    bytes_per_s: float
    message_s: float
    """Seconds of a message, however short: its way, and its packing."""


@dataclass(frozen=True)
class Batch:
    """The work of one step."""

    rows: int
    positions: int
    """Decoded positions of a row."""
    adapter_bytes: int
    row_bytes: int
    """Of a row's states and log-probabilities, sent once."""
    trips: int = 3
    """Number of times that they are sent."""


def calculate_s(device: Device, batch: Batch, processes: int, shards: int, cores: int | None) -> float:
    """Seconds until the slowest process has calculated its shards, which are decoded one after another."""
    own = -(-shards // processes)
    rows = batch.rows / shards
    seconds = own * (batch.positions * (device.token_s + device.row_s * rows) + rows * device.read_s)
    return seconds * (max(1.0, processes / cores) if cores else 1.0)


def message_s(link: Link, batch: Batch, processes: int, shards: int) -> float:
    """Seconds in which rank 0 sends and receives."""
    others = shards - -(-shards // processes)  # the shards that it does not calculate itself
    sent = (processes - 1 + others) * batch.adapter_bytes + batch.trips * others / shards * batch.rows * batch.row_bytes
    return sent / link.bytes_per_s + batch.trips * (processes - 1) * link.message_s


def step_s(
    device: Device, link: Link, batch: Batch, processes: int, shards: int | None = None, cores: int | None = None
) -> float:
    """Seconds of a step; without `shards`, one for each process."""
    dealt = shards or processes
    return device.own_s + calculate_s(device, batch, processes, dealt, cores) + message_s(link, batch, processes, dealt)


def last_that_pays(times: Sequence[float], sizes: Sequence[int] = SIZES) -> int:
    """The most processes up to which each doubling pays."""
    count = 1
    for before, now, size in zip(times, times[1:], sizes[1:], strict=False):
        if before / now < PAYS:
            break
        count = size
    return count


LAUNCH_S: Final = 0.2e-3
"""Seconds that a layer takes at least: its kernels are started one after another."""


def from_data_sheet(
    parameters: float, layers: int, memory_bytes_per_s: float, flops_per_s: float, batch: Batch, own_s: float
) -> Device:
    """A device that reads its memory at full speed, weights of two bytes each, and calculates at 40 % of its peak.

    2 operations a parameter and token forward, and as many backward, as LoRA has no gradient of the base. Forward are
    the reading by the trainer and by the reference, and the update: 8 in all. Attention is left out.
    """
    real = 0.4 * flops_per_s
    return Device(
        token_s=max(2 * parameters / memory_bytes_per_s, layers * LAUNCH_S),
        row_s=2 * parameters / real,
        read_s=8 * parameters * batch.positions / real,
        own_s=own_s,
    )


NETWORKS: Final = {
    "1 Gb/s": Link(0.11e9, 0.001), "10 Gb/s": Link(1.1e9, 0.001), "100 Gb/s": Link(11e9, 0.001),
}  # fmt: skip
"""Each at 90 % of its rate."""
MiB: Final = 2**20
BATCHES: Final = {  # rank 16 on all projections, states of float32
    "135 M, 32 x 48": (135e6, 30, Batch(32, 48, 7 * MiB, 48 * 576 * 4)),
    "8 B, 256 x 512": (8e9, 32, Batch(256, 512, 160 * MiB, 512 * 4096 * 4)),
    "8 B, 1024 x 2048": (8e9, 32, Batch(1024, 2048, 160 * MiB, 2048 * 4096 * 4)),
}
"""Parameters, layers, and completions x tokens."""


def print_table(lines: Iterable[tuple[str, Sequence[float]]]) -> None:
    """Print seconds of a step and how many times as fast it is, for each number of processes."""
    print("| model and step, network | " + " | ".join(map(str, SIZES)) + " | pays up to |")
    print("|---" * (len(SIZES) + 2) + "|")
    for name, times in lines:
        cells = [f"{one:.3g} s, ×{times[0] / one:.1f}" for one in times]
        print(f"| {name} | {' | '.join(cells)} | {last_that_pays(times)} |")


def predicted() -> Iterable[tuple[str, list[float]]]:
    """The table's lines: a device of 3.35 TB/s and 990 Tflop/s in bfloat16 (an H100's data sheet)."""
    for name, (parameters, layers, batch) in BATCHES.items():
        device = from_data_sheet(parameters, layers, 3.35e12, 990e12, batch, own_s=0.1)
        for network, link in NETWORKS.items():
            yield f"{name}, {network}", [step_s(device, link, batch, size) for size in SIZES]


# What is measured

SETTINGS: Final = ("evaluate.every=0", "checkpoint.every=1000", "threads=1", "display=quiet")


def run_and_count(argv: Sequence[str], counts: Path) -> int:
    """Run `rlhf` here, and write the bytes and messages that rank 0 sent and received."""
    sys.path.insert(0, str(ROOT))
    from rlhf_cli.cli import run
    from rlhf_cli.ranks import wire

    sizes: list[int] = []
    pack, unpack = wire.pack, wire.unpack

    def counted_pack(message: object) -> bytearray:
        content = pack(message)
        sizes.append(len(content))
        return content

    def counted_unpack(content: bytearray, device: Any) -> Any:
        sizes.append(len(content))
        return unpack(content, device)

    wire.pack, wire.unpack = counted_pack, counted_unpack
    code = run(list(argv))
    counts.write_text(json.dumps({"bytes": sum(sizes), "messages": len(sizes)}), encoding="utf-8")
    return code


@dataclass(frozen=True)
class Timed:
    """A run: medians of its steps after the first."""

    processes: int
    shards: int
    step_s: float
    rollout_s: float
    read_s: float
    own_s: float
    sent_bytes: float
    """A step's, both ways."""


def time_run(settings: Sequence[str], processes: int, shards: int, steps: int, folder: Path) -> Timed:
    """Run some steps of these settings; raises CalledProcessError where that fails."""
    run_dir, counts = folder / f"{processes}-{shards}", folder / f"{processes}-{shards}.json"
    argv = ["train", *settings, f"steps={steps}", f"processes={processes}", f"shards={shards}", f"run_dir={run_dir}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, __file__, "--run", str(counts), *argv], check=True, env=environment)
    rows = [json.loads(line) for line in (run_dir / "timings.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["step"] > 1]

    def of(*names: str) -> float:
        return median(sum(row.get(f"time/{name}_s", 0.0) for name in names) for row in rows)

    sent = json.loads(counts.read_text(encoding="utf-8"))["bytes"] / steps
    own = of("reward", "checkpoint", "other")
    return Timed(processes, shards, of("step"), of("rollout"), of("reference", "update"), own, sent)


def fit(alone: Sequence[Timed], batch: Batch) -> Device:
    """The device, from runs of one process with several numbers of shards: decoding is linear in them."""
    xs, ys = [run.shards for run in alone], [run.rollout_s for run in alone]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / sum((x - mean_x) ** 2 for x in xs)
    slope = max(slope, 0.0)
    return Device(
        token_s=slope / batch.positions,
        row_s=(mean_y - slope * mean_x) / batch.positions / batch.rows,
        read_s=median(run.read_s for run in alone) / batch.rows,
        own_s=median(run.own_s for run in alone),
    )


def measure(settings: Sequence[str], steps: int, to: Path | None) -> None:
    """Time this machine on one process, predict 2 and 4, time them, and print both."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="rlhf-scaling-") as scratch:
        folder, own = Path(scratch), [*SETTINGS, *settings]
        alone = [time_run(own, 1, shards, steps, folder) for shards in (1, 2, 4)]
        shared = [time_run(own, size, 4, steps, folder) for size in (2, 4)]
        config = json.loads((folder / "1-1" / "config.json").read_text(encoding="utf-8"))
        adapter = (folder / "1-1" / "adapter" / "adapter_model.safetensors").stat().st_size
    rows = config["prompts_per_step"] * config["samples_per_prompt"]
    batch = Batch(rows, config["max_new_tokens"], adapter, 0)
    device = fit(alone, batch)
    link = Link(2e9, 0.001)  # loopback, and the packing: about 2 GB/s
    print(f"fitted: {asdict(device)}, {cores} cores")
    print("| processes | shards | measured | predicted | predicted / measured | sent a step |")
    print("|--:|--:|--:|--:|--:|--:|")
    for run in (*alone, *shared):
        # the measured bytes stand for the row's: the model knows the adapter's
        others = run.shards - -(-run.shards // run.processes)
        known = (run.processes - 1 + others) * adapter
        share = batch.trips * others / run.shards * rows
        states = max(0, round((run.sent_bytes - known) / share)) if share else 0
        found = Batch(batch.rows, batch.positions, adapter, states)
        said = step_s(device, link, found, run.processes, run.shards, cores)
        print(
            f"| {run.processes} | {run.shards} | {run.step_s:.2f} s | {said:.2f} s | {said / run.step_s:.2f} "
            f"| {run.sent_bytes / MiB:.1f} MiB |"
        )
    if to is not None:
        content = {"cores": cores, "device": asdict(device), "runs": [asdict(run) for run in (*alone, *shared)]}
        to.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    """Print the table, or measure."""
    if sys.argv[1:2] == ["--run"]:
        return run_and_count(sys.argv[3:], Path(sys.argv[2]))
    parser = argparse.ArgumentParser(description="The time of a step on more and more processes.")
    parser.add_argument("--measure", action="store_true", help="measure 1, 2 and 4 processes here, and compare")
    parser.add_argument("--steps", type=int, default=6, metavar="N", help="steps of each measured run (default 6)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of the measured runs")
    options = parser.parse_args()
    if options.measure:
        measure(options.overrides, options.steps, options.json)
    else:
        print_table(predicted())
    return 0


if __name__ == "__main__":
    sys.exit(main())
