"""Measure how fast a step is, by phase, against the limits of the machine and against TRL: scripts/bench --help

Every point of the grid has a process of its own, so that its peak memory is its own. Its first step warms up and does
not count. With a peer, both take their steps in turn, and only one of them works at any moment.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from bench_lines import Failed, Worker
from bench_tables import report

from rlhf_cli.config.jobs import compose_config
from rlhf_cli.errors import UserError
from rlhf_cli.models.libraries import let_threads_sleep

SCRIPTS: Final = Path(__file__).resolve().parent
PEER_PYTHON: Final = SCRIPTS.parents[1] / ".venv-peer" / "bin" / "python"
NEW_TOKENS: Final = 48
GROUP: Final = 4
FIXED: Final = ("evaluate.every=0", "steps=1000000", "checkpoint.every=1000000", "beta=0.05", "temperature=1.0")
"""Nothing but steps: saving is timed on its own."""
LONE: Final = "algorithm=reinforce"
"""RLOO compares the completions of a prompt; with one of each, the mean of the batch is the baseline."""
TUNED: Final = {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=17179869184"}
"""Freed memory is kept, not given back to the system after every large tensor."""
BUSY: Final = 0.5
"""A load from which on other work disturbs: threads that wait for each other lose far more than their share."""
WAYS: Final[Mapping[str, tuple[Mapping[str, str], Sequence[str]]]] = {
    "as it is": ({}, ()),
    "one thread": ({}, ("threads=1",)),
    "threads sleep at once": ({"GOMP_SPINCOUNT": "0"}, ()),
    "threads look 1,000 times": ({"GOMP_SPINCOUNT": "1000"}, ()),
    "threads look 300,000 times, as GNU's OpenMP does": ({"GOMP_SPINCOUNT": "300000"}, ()),
}
"""Ways to wait beside other work: variables of the environment, and settings of the run."""
BUSY_LOOP: Final = (sys.executable, "-c", "while True: pass")
SAME: Final = ("model", "prompts", "device", "dtype", "beta", "temperature", "lr", "lora")
"""What the peer takes over from our run, beside the shape."""
PACKAGES: Final = ("rlhf-cli", "torch", "transformers", "peft")


@dataclass(frozen=True, slots=True)
class Point:
    """One shape of a step."""

    prompts: int
    group: int
    """Completions a prompt."""
    new_tokens: int
    """Of each completion, exactly."""
    dtype: str
    engine: str | None
    """None: what the config says."""

    def __str__(self) -> str:
        return f"{self.prompts} x {self.group} x {self.new_tokens}, {self.dtype}, {self.engine or 'default'} engine"

    def overrides(self, chosen: Sequence[str]) -> list[str]:
        """The settings of the point's run, with those that the user chose."""
        shape = [
            f"prompts_per_step={self.prompts}",
            f"samples_per_prompt={self.group}",
            f"max_new_tokens={self.new_tokens}",
            f"dtype={self.dtype}",
        ]
        engine = [f"model.engine={self.engine}"] if self.engine else []
        return [*FIXED, *([LONE] if self.group == 1 else []), *chosen, *shape, *engine]


def grid(options: argparse.Namespace) -> list[Point]:
    """The grid: for each dtype and engine, every length with groups of 4, then every size of group with 48 tokens.

    Where the user gives only one of the two, the points vary that one alone.
    """
    shapes = [(GROUP, length) for length in options.lengths] + [(group, NEW_TOKENS) for group in options.groups]
    return [
        Point(options.prompts, group, length, dtype, engine)
        for dtype in options.dtypes
        for engine in options.engines
        for group, length in dict.fromkeys(shapes or [(GROUP, NEW_TOKENS)])
    ]


def start_worker(point: Point, chosen: Sequence[str], environment: Mapping[str, str] | None = None) -> Worker:
    """Start a process that takes our steps; its threads wait as in `rlhf train`, unless `environment` differs."""
    waiting = {**os.environ, **(environment or {})}
    makes_room = compose_config(point.overrides(chosen)).makes_room
    let_threads_sleep(waiting, makes_room=makes_room)  # the worker imports torch before the product could say so
    return Worker(f"rlhf-cli at {point}", [sys.executable, str(SCRIPTS / "bench_worker.py")], waiting)


def begin(worker: Worker, point: Point, options: argparse.Namespace) -> dict[str, Any]:
    """Let the worker load everything; return the facts about its run."""
    return worker.ask(overrides=point.overrides(options.overrides), steps=options.steps + 1)


def print_step(who: str, step: dict[str, Any]) -> dict[str, Any]:
    """Print a line of progress about the step, and return it."""
    print(f"  {who} {step['seconds']['step']:.2f} s", file=sys.stderr)
    return step


def results_of(point: Point, about: dict[str, Any], steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The results of a run. Raises Failed where the completions do not have the length of the point."""
    if any(step["tokens"] != point.prompts * point.group * point.new_tokens for step in steps):
        raise Failed(f"{point}: wrote {[step['tokens'] for step in steps]} tokens")
    kept = {key: value for key, value in about.items() if key != "prompts"}
    found = asdict(point) | {"engine": about["engine"], "dtype": about["dtype"]}
    return found | {"about": kept, "warm_up": steps[0], "samples": steps[1:]}


def measure_alone(point: Point, options: argparse.Namespace) -> dict[str, Any]:
    """Measure our steps, one after the other."""
    with start_worker(point, options.overrides) as worker:
        about = begin(worker, point, options)
        steps = [print_step("rlhf-cli", worker.ask(do="step")) for _ in range(options.steps + 1)]
        return results_of(point, about, steps) | {"save_s": worker.ask(do="save")["seconds"]}


def measure_busy(point: Point, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure our steps with each way to wait: in turn one on the machine as it is, and one beside a busy process."""
    found = []
    for way, (environment, settings) in WAYS.items():
        with start_worker(point, options.overrides, environment) as worker:
            worker.ask(overrides=[*point.overrides(options.overrides), *settings], steps=2 * options.steps + 1)
            worker.ask(do="step")
            times: dict[str, list[float]] = {"quiet": [], "busy": []}
            for _ in range(options.steps):
                for kind, beside in (("quiet", ()), ("busy", (BUSY_LOOP,))):
                    with running(beside):
                        step = print_step(f"{way}, {kind}", worker.ask(do="step"))
                    times[kind].append(step["seconds"]["step"])
        found.append(asdict(point) | {"way": way} | times)
    return found


@contextmanager
def running(commands: Sequence[Sequence[str]]) -> Iterator[None]:
    """Inside, these commands run beside."""
    processes = [subprocess.Popen(command) for command in commands]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure_pair(point: Point, options: argparse.Namespace) -> dict[str, Any]:
    """Measure our steps and the peer's in turn, on the same prompts; raises Failed where their work differs."""
    completions = point.prompts * point.group
    batch = options.peer_batch or completions
    if completions % batch:
        raise Failed(f"{completions} completions are not whole batches of {batch}")
    with start_worker(point, options.overrides) as mine:
        about = begin(mine, point, options)
        if about["reward"] != "sentiment":
            raise Failed(f"beside a peer the reward is sentiment, not {about['reward']}")
        command = [options.peer_python, str(SCRIPTS / "bench_peer.py")]
        with Worker(f"the peer at {point}", command, TUNED if options.tuned else {}) as theirs:
            same = {key: about[key] for key in SAME}
            shape = {"prompts_per_step": point.prompts, "group": point.group, "new_tokens": point.new_tokens}
            of_peer = theirs.ask(**same, **shape, batch=batch, steps=options.steps + 1)
            steps = [
                (print_step("rlhf-cli", mine.ask(do="step")), print_step("the peer", theirs.ask()))
                for _ in range(options.steps + 1)
            ]
    if any(one["prompts"] != other["prompts"] for one, other in steps):
        raise Failed(f"{point}: the two did not read the same prompts")
    peer = results_of(point, about, [other for _, other in steps])
    return {
        "ours": results_of(point, about, [one for one, _ in steps]),
        "peer": peer | {"about": of_peer, "engine": "TRL", "tuned": options.tuned, "batch": batch},
    }


def machine() -> dict[str, Any]:
    """The machine and the versions of the libraries."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.date.today().isoformat(),
        "processor": names[0] if names else platform.processor(),
        "cores": f"{len(os.sched_getaffinity(0)) if sys.platform == 'linux' else os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB",
        "load": f"load {os.getloadavg()[0]:.1f} before it began",
        "system": platform.platform(),
        "python": f"Python {platform.python_version()}",
        "packages": " ".join(f"{name} {version(name)}" for name in PACKAGES),
    }


def whole_number(text: str) -> int:
    """Read a number above 0; raises ArgumentTypeError for anything else."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def whole_numbers(text: str) -> list[int]:
    """Read numbers such as 32,64,128; raises ArgumentTypeError for anything else."""
    return [whole_number(part) for part in text.split(",")]


def words(text: str) -> list[str]:
    """Read words such as float32,bfloat16."""
    return text.split(",")


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    made = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, several = made.add_argument, {"type": whole_numbers, "default": [], "metavar": "N,..."}
    add("--lengths", "--new-tokens", **several, help=f"new tokens of each completion (default {NEW_TOKENS})")
    add("--groups", **several, help=f"completions of each prompt (default {GROUP})")
    add("--prompts", type=whole_number, default=8, metavar="N", help="prompts of a step (default 8)")
    add("--dtypes", type=words, default=["float32"], metavar="NAME,...", help="float32 (default), bfloat16")
    add("--engines", type=words, default=[None], metavar="NAME,...", help="of model.engine (default: the config's)")
    add("--steps", type=whole_number, default=3, metavar="N", help="measured after one that warms up (default 3)")
    add(
        "--peer",
        choices=["trl"],
        help="take steps in turn with it (scripts/benchmark/peer.txt, installed in .venv-peer)",
    )
    add("--peer-python", default=str(PEER_PYTHON), metavar="PATH", help="of an environment that is there already")
    add("--peer-batch", type=whole_number, metavar="N", help="the peer's completions at once (default: the whole step)")
    add("--busy", action="store_true", help="each way to wait, in turn alone and beside a busy process")
    add("--tuned", action="store_true", help="the peer with a tuned allocator (GLIBC_TUNABLES)")
    add("--json", type=Path, metavar="FILE", help="write everything that was measured")
    add("--markdown", type=Path, metavar="FILE", help="measure nothing: print the tables of such a file")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="settings of our run, as of rlhf train")
    return made


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure the points; yield all results so far after each of them."""
    found: dict[str, Any] = {"machine": machine(), "command": sys.argv[1:], "roofline": {}, "points": [], "pairs": []}
    found["busy"] = []
    points = grid(options)
    if (load := os.getloadavg()[0]) > BUSY:
        print(f"warning: the machine has other work (load {load:.1f}): times will be too long", file=sys.stderr)
    with start_worker(points[0], options.overrides) as worker:
        about = begin(worker, points[0], options)
        found["machine"] |= {"threads": f"{about['threads']} threads", "gpu": about["gpu"]}
        found["roofline"] = worker.ask(do="roofline")
    for point in points:
        print(point, file=sys.stderr)
        if options.busy:
            found["busy"] += measure_busy(point, options)
        elif options.peer:
            found["pairs"].append(measure_pair(point, options))
        else:
            found["points"].append(measure_alone(point, options))
        yield found


def main() -> int:
    """Measure and print the tables, or print the tables of a file of results."""
    options = parser().parse_intermixed_args()
    try:
        if options.markdown:
            print(report(json.loads(options.markdown.read_text(encoding="utf-8"))))
            return 0
        for found in measure(options):
            if options.json:  # as it goes: a grid takes long
                options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    except UserError as error:
        print(f"error: {error.line()}", file=sys.stderr)
        return error.exit_code
    except (Failed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
