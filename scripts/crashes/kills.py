"""Kill runs at random instants, resume them, compare: scripts/kills [--kills N] [--seed S] [--preset P] [K=V]

Importing torch takes longer than such a run, and a first run twice as long as a second, so this process imports
everything, makes one run, and forks for each try. Three kills in five come at a random instant of the run; one comes
0-30 ms after a new checkpoint has appeared, and one during a save. Every third run is killed a second time while it
resumes.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

IMPORTED: Final = (
    *(f"rlhf_cli.pipeline.{name}" for name in ("assemble", "loop", "conclude")),
    "rlhf_cli.commands.training.train", "peft", "tensorboard.summary.writer.record_writer",
    "transformers.models.llama.modeling_llama",
)  # fmt: skip
COMPARED: Final = ("metrics.jsonl", "samples.jsonl", "evaluations.jsonl", "result.json", "adapter/adapter_config.json",
                   "adapter/adapter_model.safetensors")  # fmt: skip
PRESETS: Final = {
    "tiny": ("config=tiny", "steps=24", "prompts_per_step=4", "samples_per_prompt=4", "max_new_tokens=8",
             "checkpoint.every=2", "checkpoint.keep=2", "evaluate.every=8", "evaluate.prompts=4", "evaluate.samples=4",
             "display=quiet"),
    "sentiment": ("config=sentiment", "steps=3", "prompts_per_step=2", "samples_per_prompt=2", "max_new_tokens=8",
                  "checkpoint.every=1", "evaluate.every=0", "display=quiet"),
}  # fmt: skip
ALGORITHMS: Final = (
    ("algorithm=ppo", "algorithm.minibatch_size=4"),
    ("algorithm=reinforce", "algorithm.baseline=running", "beta=target"),
)
APPEARED_S: Final = 0.03
"""Longest time since a checkpoint appeared for a kill just after it."""
SAVING_S: Final = 0.003
"""Longest time since a save began for a kill during it."""
REDRAWN: Final = 20
"""Instants tried before a run counts as one that cannot be hit."""


@dataclass(frozen=True)
class Undisturbed:
    """The run that is not killed, to compare with."""

    arguments: tuple[str, ...]
    seconds: float
    saves: int
    """Its checkpoints, that of step 0 included."""
    files: dict[str, bytes]


class Child:
    """`rlhf train` in a fork of this process; its output goes to a file beside the run's folder."""

    def __init__(self, arguments: Sequence[str], folder: Path) -> None:
        self.log, self.began = folder.with_suffix(".log"), time.time()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            _work(["train", *arguments, f"run_dir={folder}", "resume=auto"], self.log)

    def wait(self) -> int:
        """Wait for the end; return the exit code, or minus the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def ended(self) -> bool:
        """Whether the process has ended; `wait` then still returns how."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def failure(self) -> str | None:
        """Wait for the end; return the exit code with the last line of output, or None where all went well."""
        code, text = self.wait(), self.log.read_text(encoding="utf-8").strip()
        return f"exit code {code}: {text[-500:]}" if code else None


def _work(argv: list[str], log: Path) -> None:
    """Run `rlhf` in the fork, and exit."""
    status = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        from rlhf_cli.cli import run

        status = run(argv)
    except BaseException:  # the fork must not go on as if it were its parent
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(status)


def prepare(folder: Path) -> None:
    """Import what takes long, and make a first run in that folder."""
    for name in IMPORTED:
        importlib.import_module(name)
    from rlhf_cli.cli import run

    if run(["train", *PRESETS["tiny"], "steps=1", f"run_dir={folder}"]):
        sys.exit(1)
    gc.freeze()


def train_undisturbed(arguments: tuple[str, ...], folder: Path) -> Undisturbed:
    """Train the run that is never killed, and time it."""
    began = time.monotonic()
    if failure := Child(arguments, folder).failure():
        sys.exit(f"error: {failure}")
    seconds, config = time.monotonic() - began, config_of(folder)
    saves = 1 + -(-config["steps"] // config["checkpoint"]["every"])
    return Undisturbed(arguments, seconds, saves, read(folder))


def config_of(folder: Path) -> dict[str, Any]:
    """The run's config, from its folder."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config


def read(folder: Path) -> dict[str, bytes]:
    """The contents that have to be the same; nothing of a file without a line, which is not made."""
    return {name: file.read_bytes() if (file := folder / name).exists() else b"" for name in COMPARED}


def find_difference(was: dict[str, bytes], now: dict[str, bytes]) -> str | None:
    """The first file that differs, and the first such line in it; None where all are the same."""
    for name, before in was.items():
        if before != now[name]:
            pairs = zip(before.split(b"\n"), now[name].split(b"\n"), strict=False)
            line = next((i for i, (a, b) in enumerate(pairs, start=1) if a != b), 0)
            return f"{name}, line {line}"
    return None


def names(folder: Path) -> list[str]:
    """The names in the folder of the checkpoints."""
    try:
        return os.listdir(folder / "checkpoints")
    except FileNotFoundError:
        return []


def complete_checkpoints(folder: Path) -> set[str]:
    """The names of the complete checkpoints."""
    return {name for name in names(folder) if name.startswith("step-")}


def phase(folder: Path, began: float) -> str:
    """What a run was doing when it was killed, judged by its files; `began`: the time when its process was forked."""
    written = folder / "config.json"
    if not written.is_file() or written.stat().st_mtime < began:  # written once everything is loaded
        return "loading"
    left, config = names(folder), config_of(folder)
    if steps := [int(name.split("-")[2]) for name in left if name.startswith(".tmp-step-")]:
        return f"in the save of step {steps[0]}"
    logged = read(folder)["metrics.jsonl"].count(b"\n") - bool(config["evaluate"]["every"])
    if not complete_checkpoints(folder) or logged < 0:
        return "before its first step"
    return f"in step {logged + 1}" if logged < config["steps"] else "after its last step"


Instant = Callable[[Child, Path, Undisturbed, random.Random], str]
"""Waits for the instant of a kill; returns what is special about it."""


def any_instant(child: Child, folder: Path, whole: Undisturbed, draws: random.Random) -> str:
    """Wait for a random instant of the run."""
    time.sleep(draws.uniform(0, whole.seconds))
    return ""


def after_save(child: Child, folder: Path, whole: Undisturbed, draws: random.Random) -> str:
    """Wait until up to 30 ms after a new checkpoint."""
    _new_checkpoints(child, folder, draws.randint(1, whole.saves))
    seconds = draws.uniform(0, APPEARED_S)
    time.sleep(seconds)
    return f", {seconds * 1000:.0f} ms after a checkpoint"


def during_save(child: Child, folder: Path, whole: Undisturbed, draws: random.Random) -> str:
    """Wait until a save is under way."""
    _new_checkpoints(child, folder, draws.randint(0, whole.saves - 1))
    while not child.ended() and not any(name.startswith(".tmp-") for name in names(folder)):
        pass  # a save takes milliseconds: nothing to sleep through
    time.sleep(draws.uniform(0, SAVING_S))
    return ""


def _new_checkpoints(child: Child, folder: Path, count: int) -> None:
    seen = complete_checkpoints(folder)
    for _ in range(count):
        while not child.ended() and complete_checkpoints(folder) <= seen:
            time.sleep(0.0005)
        seen |= complete_checkpoints(folder)


KINDS: Final[tuple[Instant, ...]] = (any_instant, after_save, any_instant, during_save, any_instant)


def kill(instant: Instant, folder: Path, whole: Undisturbed, draws: random.Random, *, afresh: bool) -> str | None:
    """Kill a run in the folder (a new run if `afresh`); return what it was doing, or None where it had ended before."""
    for _ in range(REDRAWN):
        child = Child(whole.arguments, folder)
        special = instant(child, folder, whole, draws)
        os.kill(child.pid, signal.SIGKILL)
        if child.wait() == -signal.SIGKILL:
            return phase(folder, child.began) + special
        if not afresh:
            return None
        shutil.rmtree(folder)
    sys.exit("error: the runs are over before they can be killed")


def try_all(root: Path, count: int, try_one: Callable[[int, Path], tuple[str, str | None]]) -> int:
    """Try runs by their numbers from 1 on, each in a folder below `root`, and print a line for each; the exit code.

    `try_one` returns a text of what was done, and what was wrong, if anything was: such a folder is kept.
    """
    began, bad = time.monotonic(), []
    for number in range(1, count + 1):
        folder = root / f"run-{number}"
        told, wrong = try_one(number, folder)
        print(f"{number:>4}  {told} {wrong or 'identical'}", flush=True)
        if wrong:
            bad.append(folder)
        else:
            shutil.rmtree(folder)
    print(f"{count - len(bad)} of {count} identical in {time.monotonic() - began:.0f} s")
    if bad:
        print(f"kept: {', '.join(map(str, bad))}; undisturbed: {root / 'whole-0'}, {root / 'whole-1'}")
        return 1
    shutil.rmtree(root)
    return 0


def main() -> int:
    """Kill, resume and compare runs, and print a line for each."""
    parser = argparse.ArgumentParser(description="Kill runs at random instants, resume them, and compare every byte.")
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="runs that are killed (default 200)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the instants")
    parser.add_argument("--preset", choices=PRESETS, default="tiny")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of the runs")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # without threads, a fork is a whole process
    sys.path.insert(0, str(Path(__file__).parents[2]))

    root = Path(tempfile.mkdtemp(prefix="rlhf-kills-"))
    os.chdir(root)
    setups = [(*PRESETS[options.preset], *algorithm, *options.overrides) for algorithm in ALGORITHMS]
    prepare(root / "first")
    wholes = [train_undisturbed(setup, root / f"whole-{i}") for i, setup in enumerate(setups)]
    print(f"undisturbed: {', '.join(f'{whole.seconds:.1f} s' for whole in wholes)}", flush=True)

    def try_one(number: int, folder: Path) -> tuple[str, str | None]:
        draws, which = random.Random(f"{options.seed}/{number}"), number % len(wholes)
        what = kill(KINDS[number // 2 % len(KINDS)], folder, wholes[which], draws, afresh=True)
        if number % 3 == 0 and (again := kill(any_instant, folder, wholes[which], draws, afresh=False)):
            what = f"{what}, then {again}"
        failure = Child(wholes[which].arguments, folder).failure()
        wrong = failure or find_difference(wholes[which].files, read(folder))
        return f"{ALGORITHMS[which][0]:<20} killed {what:<60}", wrong

    return try_all(root, options.kills, try_one)


if __name__ == "__main__":
    sys.exit(main())
